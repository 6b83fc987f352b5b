"""From pixels to a net's input: rescale, normalise.

Source: Simonyan & Zisserman 2015, section 2.1 (the only preprocessing is subtracting the mean RGB
value) and section 3.2 (isotropic rescaling to a smallest side Q).

Axes: N images, H rows, W columns, C channels. Images are uint8 ``(H, W, C)``, RGB or gray.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.data import RescaledTooLarge
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Resize
from vggspec.bundle.manifest import InputContract
from vggspec.data.read import as_pillow

MAX_RESCALED_PIXELS = 1 << 23  # conv1_1 of such an image and its mirror image takes 4 GB


def rescale(image: NDArray[np.uint8], scale: int, resize: Resize = "rounded") -> NDArray[np.uint8]:
    """The image with its smallest side ``scale`` pixels long, in the same proportions.

    ``rescaled_size`` gives the other side. The filter is bilinear, and each output pixel averages
    all the input that it covers, so that a large photograph does not alias; first along rows, then
    along columns, with bytes after each pass. An image of that size is returned unchanged.

    Raises:
        VggspecError: the result would have too many pixels.
    """
    return next(rescalings(image, (scale,), resize))


def rescalings(
    image: NDArray[np.uint8],
    scales: Sequence[int],
    resize: Resize = "rounded",
    *,
    most: int = MAX_RESCALED_PIXELS,
) -> Iterator[NDArray[np.uint8]]:
    """The image at each scale, as ``rescale`` returns it, one at a time.

    Raises:
        VggspecError: one would have more than ``most`` pixels.
    """
    from PIL.Image import Resampling

    height, width, channels = image.shape
    source = as_pillow(image)  # once for all scales, because it copies every pixel
    for scale in scales:
        rows, columns = rescaled_size((height, width), scale, resize)
        if rows * columns > most:
            what = RescaledTooLarge(width=columns, height=rows, scale=scale, limit=most)
            raise VggspecError(report(what))
        if (rows, columns) == (height, width):
            yield image
            continue
        resized = source
        if resize != "torchvision":  # torchvision leaves the order to Pillow
            # Pillow 13 rescales the columns of tall images first, which moves pixels by a level.
            resized = source.resize((columns, height), Resampling.BILINEAR)
        resized = resized.resize((columns, rows), Resampling.BILINEAR)
        yield np.asarray(resized).reshape(rows, columns, channels)


def rescaled_size(size: tuple[int, int], scale: int, resize: Resize = "rounded") -> tuple[int, int]:
    """Rows and columns of an image of ``size`` after rescaling its smallest side to ``scale``.

    The other side is rounded to the nearest pixel, halves up; torchvision rounds it down.

    >>> rescaled_size((333, 500), 256), rescaled_size((333, 500), 256, "torchvision")
    ((256, 384), (256, 384))
    >>> rescaled_size((427, 640), 256), rescaled_size((427, 640), 256, "torchvision")
    ((256, 384), (256, 383))
    """
    short = min(size)
    if resize == "torchvision":
        height, width = (side * scale // short for side in size)
        return height, width
    height, width = ((2 * side * scale + short) // (2 * short) for side in size)
    return height, width


def normalise(images: NDArray[np.uint8], contract: InputContract) -> NDArray[Any]:
    """The input tensor of ``contract``, from images ``(N, H, W, C)``, RGB or gray.

    ``raw`` is the images; ``float`` is float32 ``(N, C, H, W)``, ``(x - mean) * scale / std``, with
    blue first for BGR. The result is contiguous.
    """
    if contract.contract == "raw":
        return np.ascontiguousarray(images)
    if contract.color == "BGR":
        images = images[..., ::-1]
    planes = images.transpose(0, 3, 1, 2)
    std = contract.std or (1.0,) * len(contract.mean)
    gain = np.array([contract.scale / one for one in std], np.float32).reshape(-1, 1, 1)
    mean = np.array(contract.mean, np.float32).reshape(-1, 1, 1)
    # One pass from bytes to floats, then in place: ten times as fast as astype first.
    feed = np.empty(planes.shape, np.float32)
    np.subtract(planes, mean, out=feed)
    if np.any(gain != 1):
        feed *= gain
    return feed
