"""Random weights of net D, written once into ``bench-out/``."""

import sys
from pathlib import Path

from benchmarks.measure import process

OUT = Path("bench-out")


def weights_of_d() -> Path:
    """A weights file of 553 MB."""
    path = OUT / "D.safetensors"
    if not path.exists():
        OUT.mkdir(exist_ok=True)
        process([sys.executable, "-m", "vggspec", "init", "specs/D.vgg", "-o", str(path)])
    return path.resolve()
