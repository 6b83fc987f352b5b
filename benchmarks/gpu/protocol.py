"""The paper's whole test protocol on a folder of photographs on a GPU.

Three scales with mirror images, ours over ONNX Runtime beside a plain loop in PyTorch, in turn, in
fp32, from JPEG files to posteriors.

    python -m benchmarks.gpu.protocol --photos 32
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import vggspec
from benchmarks.gpu.engine import SPEC
from benchmarks.gpu.machine import table
from benchmarks.measure import in_turn
from benchmarks.peers import vgg16
from benchmarks.weights import weights_of_d

SCALES = (256, 384, 512)
SIZES = ((500, 375), (375, 500), (500, 333), (640, 480))


def write_photos(folder: Path, number: int) -> list[Path]:
    """Smooth noise as JPEG files of several sizes."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(number):
        path = folder / f"{i:03}.jpg"
        small = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
        size = SIZES[i % len(SIZES)]
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


@torch.inference_mode()
def plain(module: torch.nn.Module, photos: Sequence[Path]) -> NDArray[np.float32]:
    """Posteriors ``(photos, 1000)`` as one writes it by hand."""
    mean = torch.tensor([123.68, 116.779, 103.939])[:, None, None]
    answers = []
    for photo in photos:
        total = torch.zeros(1000, device="cuda")
        for scale in SCALES:
            with Image.open(photo) as image:
                factor = scale / min(image.size)
                size = round(image.width * factor), round(image.height * factor)
                pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            x = (torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() - mean)[None].to("cuda")
            total += module(x)[0] + module(x.flip(3))[0]
        answers.append((total / (2 * len(SCALES))).cpu().numpy())
    return np.stack(answers)


def main(texts: Sequence[str]) -> int:
    """Print a table in Markdown; 3 without a CUDA device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.protocol", description=__doc__)
    parser.add_argument("--photos", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(texts)
    if not torch.cuda.is_available():
        print("this torch has no CUDA device")
        return 3
    torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory(dir=weights_of_d().parent) as name:
        folder = Path(name)
        photos = write_photos(folder, given.photos)
        module = vgg16.load(str(weights_of_d())).to("cuda")
        # In fp16 cuDNN refuses some of these shapes.
        vggspec.compile(SPEC, weights=weights_of_d(), out=folder / "D", precision="fp32")
        with vggspec.load(folder / "D", device="cuda") as predictor:
            found = predictor(list(photos), scales=SCALES, flip=True)
            expected = plain(module, photos)
            far = float(np.abs(np.stack([one.posteriors for one in found]) - expected).max())
            taken = in_turn(
                {
                    "ours": lambda: predictor(list(photos), scales=SCALES, flip=True),
                    "plain": lambda: plain(module, photos),
                },
                given.rounds,
            )
    ours, other = (statistics.median(taken[name]) for name in ("ours", "plain"))
    rates = [f"{given.photos / seconds:.1f}" for seconds in (ours, other)]
    row = [str(given.photos), *rates, f"{other / ours:.2f}", f"{far:.1e}"]
    header = ["photographs", "vggspec, images/s", "plain torch, images/s", "ratio", "apart"]
    print(table(header, [row]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
