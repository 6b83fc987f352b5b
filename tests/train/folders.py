"""Small data sets for tests: classes that differ in colour."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.nets import net
from vggspec.compiler.lower import Lowered

HUES = {"blue": (40, 60, 200), "green": (50, 190, 70), "red": (210, 50, 40)}

TINY = """\
net tiny
input 16x16 RGB(std 64)
conv3-4
maxpool
FC-8
FC-3
soft-max
train:
  scale 18..20
  batch 8
  rate 1e-2
  dropout 0.2
  stop after 3 epochs
  start he
test:
  scale 19
"""


def tiny(*changes: tuple[str, str]) -> Lowered:
    """The tiny net, with parts of its text changed."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return net(text, "tiny.vgg")


def picture(hue: Sequence[int], size: tuple[int, int], seed: int) -> Image.Image:
    """A noisy picture of one colour, ``size`` rows and columns."""
    random = np.random.default_rng(seed)
    pixels = np.array(hue) + random.normal(0, 40, (*size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folder(root: Path, train: int = 10, val: int = 4) -> Path:
    """An image folder with that many images of each colour."""
    for number, (name, hue) in enumerate(HUES.items()):
        for split, images in (("train", train), ("val", val)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                seed = 1000 * number + 100 * (split == "val") + i
                picture(hue, (20 + i % 3, 24), seed).save(folder / f"{i}.png")
    return root
