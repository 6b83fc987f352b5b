"""Net D applied densely to a 384 × 512 image on this machine's CPU, one image at a time.

The bundle through ``vggspec.runtime`` against a session written by hand over a plain export, and
against PyTorch in its default layout.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

import vggspec
from benchmarks.measure import Claim, conclude, in_turn, milliseconds, process, ratio
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d
from vggspec.bundle.opening import open_bundle
from vggspec.runtime.open_session import open_session


def main() -> list[Claim]:
    """No slower than the hand-written session; at least 1.4 times as fast as PyTorch."""
    weights = weights_of_d()
    image = np.random.default_rng(0).standard_normal((1, 3, 384, 512)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        bundle, exported = Path(folder) / "bundle", str(Path(folder) / "exported.onnx")
        vggspec.compile("specs/D.vgg", weights=weights, out=bundle)
        export = [sys.executable, "-m", "benchmarks.peers.export", str(weights), exported]
        process([*export, "script"])
        peer = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
        module = vgg16.load(str(weights))
        tensor = torch.from_numpy(image)
        with open_session(open_bundle(bundle), device="cpu") as ours, torch.inference_mode():
            found = ours.run({"image": image})["posteriors"]
            np.testing.assert_allclose(found, peer.run(None, {"image": image})[0], atol=1e-5)
            np.testing.assert_allclose(found, module(tensor).numpy(), atol=1e-5)
            seconds = in_turn(
                {
                    "vggspec": lambda: ours.run({"image": image}),
                    "by hand": lambda: peer.run(None, {"image": image}),
                    "torch": lambda: module(tensor),
                },
                rounds=7,
            )
    detail = ", ".join(f"{name} {milliseconds(times)}" for name, times in seconds.items())
    return [
        Claim(
            "hand-written session / vggspec, dense D",
            ratio(seconds["by hand"], seconds["vggspec"]),
            # Two medians of the same work differ by this much on a machine that is not idle.
            0.97,
            at_least=True,
            detail=detail,
        ),
        Claim(
            "torch eager / vggspec, dense D",
            ratio(seconds["torch"], seconds["vggspec"]),
            1.4,
            at_least=True,
        ),
    ]


if __name__ == "__main__":
    sys.exit(conclude(main()))
