"""One resampling that crops and rescales, to Pillow's pixels or, several times as fast, almost.

Both apply the same triangle filter to rows and to columns, and round to bytes between the two.
Pillow begins with the rows; fast_image_resize (its Python package is cykooz-resizer), which uses
the vector units of the processor, with the columns. So one value in seven differs by a level of
255, very few by two.

Axes: H rows, W columns, C channels.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import cast

import numpy as np
from PIL import Image

from vggspec.data.decode import Pixels

#: Left, top, right and bottom in an image, in pixels.
Box = tuple[float, float, float, float]

#: Image, box, rows and columns to the rescaled part, as ``resample``.
Resample = Callable[[Pixels, Box, int, int], Pixels]


def resample(image: Pixels, box: Box, rows: int, columns: int) -> Pixels:
    """The part of an image that is in ``box`` as ``(rows, columns, C)``, with Pillow's pixels."""
    source = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    found = source.resize((columns, rows), Image.Resampling.BILINEAR, box)
    return np.asarray(found).reshape(rows, columns, image.shape[2])


def resample_fast(image: Pixels, box: Box, rows: int, columns: int) -> Pixels:
    """As ``resample``, up to two levels; its pixels where fast_image_resize is not installed."""
    library = _fast_image_resize()
    if library is None:
        return resample(image, box, rows, columns)
    height, width, channels = image.shape
    left, top, right, bottom = box
    kind = library.PixelType.U8 if channels == 1 else library.PixelType.U8x3
    found = library.ImageData(columns, rows, kind)
    library.Resizer().resize(
        library.ImageData(width, height, kind, image.tobytes()),
        found,
        library.ResizeOptions(
            resize_alg=library.ResizeAlg.convolution(library.FilterType.bilinear),
            crop_box=library.CropBox(left, top, right - left, bottom - top),
        ),
    )
    return np.frombuffer(found.get_buffer(), np.uint8).reshape(rows, columns, channels)


def mirrored(pixels: Pixels) -> Pixels:
    """Left and right exchanged. numpy takes ten times as long to copy pixels of three bytes."""
    import torch

    return torch.from_numpy(pixels.copy()).flip(1).numpy()  # a copy may be written to


@functools.cache
def _fast_image_resize() -> ModuleType | None:
    try:
        import cykooz_resizer
    except ImportError:
        return None
    return cast("ModuleType", cykooz_resizer)
