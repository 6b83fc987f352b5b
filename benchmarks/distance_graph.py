"""LPIPS as one ONNX graph, beside the package ``lpips`` in PyTorch.

Two pictures of 256 × 256 on this machine's CPU, one pair at a time, with the same random weights of
VGG-16 and the package's own factors.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, ratio
from tests.peers import torchvision_models

SIDE = 256


def main() -> list[Claim]:
    """No slower than PyTorch."""
    torchvision_models()
    import lpips

    torch.manual_seed(0)
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    slices = (getattr(theirs.net, f"slice{i}") for i in range(1, 6))
    state = {
        f"features.{name}": tensor for each in slices for name, tensor in each.state_dict().items()
    }
    first, second = np.random.default_rng(0).integers(0, 256, (2, 1, SIDE, SIDE, 3), np.uint8)
    planes = [torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1 for x in (first, second)]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        torch.save(state, here / "vgg.pth")
        vggspec.import_weights("lpips", here / "vgg.pth", out=here / "lpips.safetensors")
        vggspec.compile(
            "lpips",
            weights=here / "lpips.safetensors",
            out=here / "lpips",
            distance=True,
            factors=Path(lpips.__file__).parent / "weights/v0.1/vgg.pth",
            contract="raw",
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        graph = ort.InferenceSession(
            here / "lpips/1/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        feeds = {"first": first, "second": second}
        with torch.inference_mode():
            found = graph.run(None, feeds)[0]
            np.testing.assert_allclose(found, theirs(*planes).reshape(-1).numpy(), rtol=1e-4)
            seconds = in_turn(
                {"graph": lambda: graph.run(None, feeds), "lpips": lambda: theirs(*planes)},
                rounds=9,
            )
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    title = f"the package lpips / one graph, two pictures of {SIDE} x {SIDE}"
    value = ratio(seconds["lpips"], seconds["graph"])
    return [Claim(title, value, 1, at_least=True, detail=f"{os.cpu_count()} CPUs: {detail}")]


if __name__ == "__main__":
    sys.exit(conclude(main()))
