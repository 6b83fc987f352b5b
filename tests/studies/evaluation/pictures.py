"""A small data set for the nets of ``bundles``: folders of pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

#: Of the pictures of a class in turn, rows and columns; the first and the third are alike.
SIZES = [(43, 70), (61, 37), (43, 70), (24, 24), (24, 25)]

#: Folders for the classes of ``bundles.LABELS``, one of them by its second name; one is lacking.
FOLDERS = ("ant", "cat", "dog", "honey bee")


def picture(size: tuple[int, int], seed: int) -> bytes:
    """A PNG of soft patches."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def write_pictures(
    root: Path, number: int = 5, folders: tuple[str, ...] = FOLDERS, split: str = "val"
) -> Path:
    """Write a number of pictures of each class below ``root``; returns ``root``."""
    for kind, folder in enumerate(folders):
        (root / split / folder).mkdir(parents=True)
        for i in range(number):
            data = picture(SIZES[i % len(SIZES)], 1000 * kind + i)
            (root / split / folder / f"{i}.png").write_bytes(data)
    return root
