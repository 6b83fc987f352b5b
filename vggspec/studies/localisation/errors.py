"""How often boxes are wrong, on images whose objects are known.

A box is right when it shares more with a true one of its class than ``iou`` says. Of an image, one
of the answers has to be right: the first one (top-1 error), or any of the five (top-5). With the
class given, each class on an image is a question of its own.

What is counted are whole numbers, so the order of the images changes nothing.

Source: Simonyan & Zisserman 2015, appendix A; Russakovsky et al. 2015, section 4.3 (ILSVRC).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from vggspec.base.catalogue.data import TooManyBadImages
from vggspec.base.diagnostic import VggspecError, report
from vggspec.data.annotated import Annotated
from vggspec.data.boxes import RIGHT_IOU, iou
from vggspec.data.left_out import FIRST as FIRST_BAD
from vggspec.data.split import MAX_BAD_SHARE
from vggspec.studies.localisation.localise import Located, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is said of an image."""

    index: int
    likeliest: tuple[bool, ...] = ()
    """Whether each of the classifier's answers is right, best first."""

    given: tuple[tuple[int, bool], ...] = ()
    """Each class on the image, and whether its box is right."""

    unread: str | None = None


@dataclass(slots=True)
class Count:
    """So many answers, and how many of them were wrong."""

    answers: int = 0
    wrong: int = 0

    @property
    def error(self) -> float:
        """From 0 to 1; 0 of none."""
        return self.wrong / max(self.answers, 1)

    def add(self, *, is_right: bool) -> None:
        """Count an answer."""
        self.answers += 1
        self.wrong += not is_right


@dataclass(slots=True)
class LocalisationTally:
    """Everything that is counted."""

    total: int
    """Images that are asked about."""

    top1: Count = field(default_factory=Count)
    top5: Count = field(default_factory=Count)
    given: Count = field(default_factory=Count)
    by_class: dict[int, Count] = field(default_factory=dict)
    """Of ``given``, class by class."""

    left_out: dict[int, str] = field(default_factory=dict)
    """Images that could not be read, and why."""

    images: int = 0

    def add(self, verdict: Verdict, name: Callable[[int], str]) -> None:
        """Count an image; ``name`` gives the path of one.

        Raises:
            VggspecError: too many images cannot be read.
        """
        if verdict.unread is not None:
            self.left_out[verdict.index] = verdict.unread
            if len(self.left_out) > MAX_BAD_SHARE * self.total:
                listed = sorted(self.left_out.items())[:FIRST_BAD]
                first = tuple(f"{name(index)}: {why}" for index, why in listed)
                bad = TooManyBadImages(bad=len(self.left_out), total=self.total, first=first)
                raise VggspecError(report(bad))
            return
        self.images += 1
        if verdict.likeliest:
            self.top1.add(is_right=verdict.likeliest[0])
            self.top5.add(is_right=any(verdict.likeliest))
        for label, is_right in verdict.given:
            self.given.add(is_right=is_right)
            self.by_class.setdefault(label, Count()).add(is_right=is_right)


def judge(
    found: Located, data: Annotated, classes: Sequence[int], least_iou: float = RIGHT_IOU
) -> Verdict:
    """Hold the places on an image against its objects.

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

    def is_right(place: Place) -> bool:
        if place.box is None:
            return False
        return bool((iou(place.box, boxes[own == place.label]) > least_iou).any())

    return Verdict(
        index=found.index,
        likeliest=tuple(is_right(place) for place in found.likeliest),
        given=tuple(
            (place.label, is_right(place)) for place in found.asked if place.label is not None
        ),
    )


def classes_on(data: Annotated, index: int, classes: Sequence[int]) -> list[int]:
    """The net's numbers of the classes on an image, in ascending order."""
    labels, _ = data.objects(index)
    return sorted({classes[label] for label in labels})
