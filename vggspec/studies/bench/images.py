"""The images that nets are measured and compared on.

Axes: N images, H rows, W columns, C channels.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vggspec.base.catalogue.benching import NoPicturesToBench
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.watcher import Watcher
from vggspec.base.wording import count
from vggspec.bundle.profile import Size
from vggspec.data.pictures import list_images
from vggspec.data.read import Pixels, read_image
from vggspec.studies.verification.images import natural_images

MOST_PICTURES = 32
SYNTHETIC = 8


@dataclass(frozen=True, slots=True)
class BenchImages:
    """Pictures, or images made where there are none."""

    paths: tuple[Path, ...] = ()

    def at(self, size: Size, channels: int) -> Pixels:
        """All of them, uint8 ``(N, H, W, C)``: of a picture its middle, rescaled to ``size``.

        Raises:
            VggspecError: a picture cannot be read.
        """
        if not self.paths:
            return natural_images((SYNTHETIC, *size), channels, seed=0)
        pictures = [_fitted(path, size, channels) for path in self.paths]
        return np.stack(pictures)


def images_of(folder: str | os.PathLike[str] | None, watch: Watcher) -> BenchImages:
    """The pictures of a folder, or synthetic images; a note says how many are left out.

    Raises:
        VggspecError: the folder has none, or cannot be read.
    """
    if folder is None:
        return BenchImages()
    paths = list_images(folder, watch)
    if not paths:
        raise VggspecError(report(NoPicturesToBench(), path=os.fspath(folder)))
    # Class folders come one after another: these are spread over all.
    kept = [paths[i * len(paths) // MOST_PICTURES] for i in range(MOST_PICTURES)]
    if len(paths) <= MOST_PICTURES:
        kept = list(paths)
    else:
        watch.note(f"answers are compared on {MOST_PICTURES} of {count(len(paths), 'picture')}")
    return BenchImages(tuple(kept))


def _fitted(path: Path, size: Size, channels: int) -> Pixels:
    pixels = read_image(path, "gray" if channels == 1 else "RGB")
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    fitted = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(fitted).reshape(*size, channels)
