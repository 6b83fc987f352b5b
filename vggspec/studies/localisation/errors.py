"""Localisation errors, on images whose objects are known.

A box is right if its IoU with a true box of its class is above a threshold. On each image, the
first box must be right (top-1 error), or any of the first five (top-5 error). With the class given,
the box of each class on an image must be right.

All counts are integers, so the order of the images changes nothing.

Source: Simonyan & Zisserman 2015, appendix A; Russakovsky et al. 2015, section 4.3 (ILSVRC).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vggspec.data.annotated import Annotated
from vggspec.data.box_coding import RIGHT_IOU, iou
from vggspec.data.left_out import LeftOut
from vggspec.studies.localisation.localiser import ClassBox, Located


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Which boxes on an image are right."""

    index: int
    likeliest: tuple[bool, ...] = ()
    """Whether the box of each of the likeliest classes is right, best first."""

    given: tuple[tuple[int, bool], ...] = ()
    """Each class on the image, and whether its box is right."""

    unread: str | None = None
    """Why the image was left out, if it was."""


@dataclass(slots=True)
class ErrorCount:
    """The number of answers, and how many of them are wrong."""

    answers: int = 0
    wrong: int = 0

    @property
    def error(self) -> float:
        """From 0 to 1; 0 without answers."""
        return self.wrong / max(self.answers, 1)

    def add(self, *, is_right: bool) -> None:
        """Count an answer."""
        self.answers += 1
        self.wrong += not is_right


@dataclass(slots=True)
class LocalisationTally:
    """The counts over all images."""

    total: int
    """The number of images, including those left out."""

    top1: ErrorCount = field(default_factory=ErrorCount)
    top5: ErrorCount = field(default_factory=ErrorCount)
    given: ErrorCount = field(default_factory=ErrorCount)
    by_class: dict[int, ErrorCount] = field(default_factory=dict)
    """``given`` by class."""

    left_out: LeftOut = field(init=False)
    """The images that cannot be used."""

    images: int = 0
    """The number of images that are counted."""

    def __post_init__(self) -> None:
        self.left_out = LeftOut(self.total)

    def add(self, verdict: Verdict, name: str) -> None:
        """Count the image ``name``.

        Raises:
            VggspecError: too many images cannot be used.
        """
        if verdict.unread is not None:
            self.left_out.add(name, verdict.unread)
            return
        self.images += 1
        if verdict.likeliest:
            self.top1.add(is_right=verdict.likeliest[0])
            self.top5.add(is_right=any(verdict.likeliest))
        for label, is_right in verdict.given:
            self.given.add(is_right=is_right)
            self.by_class.setdefault(label, ErrorCount()).add(is_right=is_right)


def judge(
    found: Located, data: Annotated, classes: Sequence[int], least_iou: float = RIGHT_IOU
) -> Verdict:
    """Compare the boxes on an image with its objects.

    ``classes`` are the net's numbers of the data's classes.
    """
    rows, columns = data.size(found.index)
    if found.unread is not None:
        return Verdict(index=found.index, unread=found.unread)
    if found.size != (rows, columns):
        has = f"{found.size[1]} × {found.size[0]}"
        why = f"it has {has} pixels, its annotation says {columns} × {rows}"
        return Verdict(index=found.index, unread=why)
    labels, boxes = data.objects(found.index)
    own = np.array([classes[label] for label in labels])

    def is_right(one: ClassBox) -> bool:
        if one.box is None:
            return False
        return bool((iou(one.box, boxes[own == one.label]) > least_iou).any())

    return Verdict(
        index=found.index,
        likeliest=tuple(map(is_right, found.likeliest)),
        given=tuple((one.label, is_right(one)) for one in found.asked if one.label is not None),
    )


def classes_on(data: Annotated, index: int, classes: Sequence[int]) -> list[int]:
    """The net's numbers of the classes on an image, ascending."""
    labels, _ = data.objects(index)
    return sorted({classes[label] for label in labels})
