"""What is known of an image and the objects on it, whatever wrote it down."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from vggspec.data.boxes import Boxes, area, clip

#: More than any camera has, and little enough to be reckoned with.
MAX_SIDE = 1 << 20
MAX_OBJECTS = 10_000


class BadAnnotationError(Exception):
    """An image's annotation cannot be true; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """The objects on an image."""

    size: tuple[int, int]
    """Rows and columns of the image that was annotated."""

    names: tuple[str, ...]
    """The class of each object."""

    boxes: Boxes
    """``(N, 4)``, within the image."""

    is_clipped: bool
    """Whether a part of a box lay outside."""


def annotation(size: tuple[int, int], objects: Iterable[tuple[str, Sequence[float]]]) -> Annotation:
    """An image of so many rows and columns, and for each object its class and its box.

    What lies outside of the image is cut off: in sets drawn by hand many boxes reach over the edge
    by a pixel.

    Raises:
        BadAnnotationError: there can be no such image, a box is empty, or nothing of it lies within
            the image.
    """
    if not all(0 < side <= MAX_SIDE for side in size):
        raise BadAnnotationError(f"it is about an image of {size[1]} × {size[0]} pixels")
    found = list(objects)
    if len(found) > MAX_OBJECTS:
        raise BadAnnotationError(f"it has {len(found)} objects, more than {MAX_OBJECTS}")
    written = np.array([box for _, box in found], np.float64).reshape(-1, 4)
    boxes = clip(written, size)
    # Comparisons with what is not a number are false.
    for is_good, why in (
        (np.isfinite(written).all(axis=1) & (area(written) > 0), "has an empty box"),
        (area(boxes) > 0, "lies outside of the image"),
    ):
        if not is_good.all():
            first = int(np.argmin(is_good))
            raise BadAnnotationError(f"object {first + 1}, `{found[first][0]}`, {why}")
    return Annotation(
        size=size,
        names=tuple(name for name, _ in found),
        boxes=boxes,
        is_clipped=bool((boxes != written).any()),
    )


def checked_name(name: str) -> str:
    """The name of a file below a folder.

    Raises:
        BadAnnotationError: it would lead somewhere else.
    """
    path = PurePosixPath(name)
    is_below = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    if not is_below or any(character in name for character in "\\:\0"):
        raise BadAnnotationError(f"`{name}` is no file below the folder of the images")
    return name
