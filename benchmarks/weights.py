"""Random weights of net D, written once into ``bench-out/``."""

import sys
from pathlib import Path

from benchmarks.measure import process

OUT = Path("bench-out")


def weights_of_d() -> Path:
    """A weights file of 553 MB.

    Weights are drawn by He's rule. By the paper's, with a variance of 0.01, activations of so deep
    a net reach beyond the range of fp16.
    """
    path = OUT / "D-he.safetensors"
    if not path.exists():
        OUT.mkdir(exist_ok=True)
        spec = OUT / "D-he.vgg"
        text = Path("specs/D.vgg").read_text("utf-8")
        spec.write_text(f"{text}\ntrain:\n  start he\n", "utf-8")
        process([sys.executable, "-m", "vggspec", "init", str(spec), "-o", str(path)])
    return path.resolve()
