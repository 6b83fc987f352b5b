"""Photographs for tests: smooth ones made from a few random pixels, and two real ones."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling

Pixels = NDArray[np.uint8]


def photo(size: tuple[int, int], seed: int = 0) -> Pixels:
    """Smooth colours of the given rows and columns."""
    return np.array(_smooth(size, (5, 6), seed))


def small_photo(height: int = 24, width: int = 36, seed: int = 0) -> Pixels:
    """Smoother ones, which lossy formats change little."""
    return np.array(_smooth((height, width), (4, 5), seed))


def png(size: tuple[int, int], seed: int) -> bytes:
    """``photo`` as a file."""
    file = io.BytesIO()
    _smooth(size, (5, 6), seed).save(file, "PNG")
    return file.getvalue()


def write_photos(folder: Path) -> list[Path]:
    """Three files of 40 × 60 pixels."""
    rng = np.random.default_rng(6)
    paths = [folder / f"photo{k}.png" for k in range(3)]
    for path in paths:
        pixels = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60, 40)).save(path)
    return paths


def real_photo(name: str, size: tuple[int, int], resample: Resampling | None = None) -> Image.Image:
    """One of scikit-learn's, rescaled to the given columns and rows."""
    datasets = pytest.importorskip("sklearn.datasets")
    return Image.fromarray(datasets.load_sample_image(name)).resize(size, resample)


def _smooth(size: tuple[int, int], coarse: tuple[int, int], seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*coarse, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size[1], size[0]), Resampling.BICUBIC)
