"""Annotations of an image and the objects on it, in any format."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

#: More than any camera has, and small enough to compute with.
MAX_SIDE = 1 << 20
MAX_OBJECTS = 10_000

Size = tuple[int, int]
"""Rows and columns."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom; see ``box_coding.py``. Half a million arrays would take minutes."""


class BadAnnotationError(Exception):
    """An image's annotation is invalid; the message says why."""


@dataclass(frozen=True, slots=True)
class RawAnnotation:
    """The annotation in a file, as boxes, unchecked."""

    size: Size | None
    """The size of the annotated image; None if the file does not state it."""

    objects: Sequence[tuple[str, Box]]
    """For each its class and its box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """The objects on an image."""

    size: Size
    """Of the image that was annotated."""

    names: tuple[str, ...]
    """The class of each object."""

    boxes: tuple[Box, ...]
    """Within the image, none of them empty."""

    is_clipped: bool
    """Whether a box crossed the edge."""


def annotation(size: Size, objects: Sequence[tuple[str, Box]]) -> Annotation:
    """The objects on an image of that size, each a class and a box.

    Boxes are clipped at the edge of the image: in sets drawn by hand many cross it by a pixel.

    Raises:
        BadAnnotationError: no image can have that size, a box is empty, or it is outside the
            image.
    """
    rows, columns = size
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise BadAnnotationError(f"it is about an image of {columns} × {rows} pixels")
    if len(objects) > MAX_OBJECTS:
        raise BadAnnotationError(f"it has {len(objects)} objects, more than {MAX_OBJECTS}")
    boxes = []
    for number, (name, (left, top, right, bottom)) in enumerate(objects, start=1):
        # Comparisons with NaN are false.
        if not (-math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf):
            raise BadAnnotationError(f"object {number}, `{name}`, has an empty box")
        box = max(left, 0.0), max(top, 0.0), min(right, float(columns)), min(bottom, float(rows))
        if not (box[0] < box[2] and box[1] < box[3]):
            raise BadAnnotationError(f"object {number}, `{name}`, lies outside of the image")
        boxes.append(box)
    return Annotation(
        size=size,
        names=tuple(name for name, _ in objects),
        boxes=tuple(boxes),
        is_clipped=any(box != written for box, (_, written) in zip(boxes, objects, strict=True)),
    )


def checked_name(name: str) -> str:
    """The name of a file below a folder.

    Raises:
        BadAnnotationError: it would lead outside, or is not a valid name.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise BadAnnotationError("no file can be called so") from error
    path = PurePosixPath(name)
    is_below = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    if not is_below or any(character in name for character in "\\:\0"):
        raise BadAnnotationError(f"`{name}` is no file below the folder of the images")
    return name
