"""A data set in figures: what ``survey`` found on its images, summed up and compared.

Axes: N images.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.base.class_names import same
from vggspec.base.diagnostic import Report
from vggspec.base.short_repr import short_repr
from vggspec.data.mask import IGNORED
from vggspec.data.survey import Survey

#: A longer side beyond this multiple of the shorter one is odd: a crop shows little of the image.
ODD_RATIO = 3.0

Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image is."""

    split: str
    file: str
    classes: tuple[str, ...]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Places of one image."""

    places: tuple[Place, ...]
    same: Literal["file", "pixels"]
    """Whether the files are equal byte by byte, or only their pixels."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that contain it."""
        return tuple(dict.fromkeys(place.split for place in self.places))

    @property
    def is_contradictory(self) -> bool:
        """Whether its places name different classes."""
        return len({place.classes for place in self.places}) > 1


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """A split in figures."""

    name: str
    images: int
    """All that are listed, readable or not."""

    classes: Mapping[str, int]
    """The images of each class of the data set; one with several classes counts for each, as a
    picture with a mask for each class that it shows."""

    broken: Mapping[str, str]
    """Images that cannot be read, each with the reason."""

    smallest: Size | None
    """Rows and columns of the image with the fewest pixels, of the middle one, and of the largest;
    None where no image can be read."""

    median: Size | None
    largest: Size | None
    odd: Mapping[str, Size]
    """Images whose longer side is more than three times the shorter one, with rows and columns."""

    formats: Mapping[str, int]
    """How many images have each format and mode, the most frequent first."""

    turned: int
    """Images that EXIF turns upright, or mirrors."""

    enlarged: Mapping[str, Size]
    """Images with a side smaller than the net's input, with rows and columns."""

    notes: tuple[str, ...]
    """What of the folder is not used, in words."""

    pixels: Mapping[str, int] | None = None
    """Of pictures with masks, the pixels of each class; None for others."""

    ignored: int = 0
    """Pixels that the masks say to ignore."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """A data set in figures."""

    folder: Path
    classes: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    copies: tuple[Copies, ...]
    """Images that are there more than once."""

    input: Size | None
    """Rows and columns of the net's input, if a spec was given."""

    refused: tuple[Report, ...]
    """Why training would refuse the data."""

    @property
    def duplicates(self) -> Mapping[str, int]:
        """For each split how many of its images are a copy of another one of it."""
        found: Counter[str] = Counter()
        for one in self.copies:
            for split, number in Counter(place.split for place in one.places).items():
                found[split] += number - 1
        return {split.name: found[split.name] for split in self.splits}

    @property
    def leaked(self) -> tuple[Copies, ...]:
        """Copies in more than one split: a net is tested on images that it was trained on."""
        return tuple(one for one in self.copies if len(one.splits) > 1)

    @property
    def contradictions(self) -> tuple[Copies, ...]:
        """Copies in different classes."""
        return tuple(one for one in self.copies if one.is_contradictory)

    @property
    def imbalance(self) -> float | None:
        """How many times the images of the smallest class of the first split its largest has; empty
        classes do not count. None if all are empty.
        """
        numbers = [number for number in self.splits[0].classes.values() if number]
        return max(numbers) / min(numbers) if numbers else None

    def as_data(self) -> dict[str, Any]:
        """Everything that was found, for JSON; sizes are rows and columns."""
        return {
            "folder": str(self.folder),
            "classes": list(self.classes),
            "imbalance": self.imbalance,
            "input": self.input,
            "splits": [_split_as_data(split) for split in self.splits],
            "copies": [
                {
                    "same": one.same,
                    "is_leaked": len(one.splits) > 1,
                    "is_contradictory": one.is_contradictory,
                    "places": [
                        {"split": at.split, "file": at.file, "classes": list(at.classes)}
                        for at in one.places
                    ],
                }
                for one in self.copies
            ],
            "refused": [str(each) for each in self.refused],
        }


def _split_as_data(split: SplitReport) -> dict[str, Any]:
    return {
        "name": split.name,
        "images": split.images,
        "classes": dict(split.classes),
        "broken": [{"file": name, "why": why} for name, why in split.broken.items()],
        "sizes": {"smallest": split.smallest, "median": split.median, "largest": split.largest},
        "odd": [{"file": name, "size": size} for name, size in split.odd.items()],
        "formats": dict(split.formats),
        "turned": split.turned,
        "enlarged": [{"file": name, "size": size} for name, size in split.enlarged.items()],
        "notes": list(split.notes),
        "pixels": None if split.pixels is None else dict(split.pixels),
        "ignored": split.ignored,
    }


def summed_up(
    folder: Path,
    surveys: Sequence[Survey],
    *,
    input: Size | None = None,
    refused: Sequence[Report] = (),
) -> DataReport:
    """The report on the splits of a data set, at least one."""
    classes = _all_classes(surveys)
    return DataReport(
        folder=folder,
        classes=classes,
        splits=tuple(_of_split(one, classes, input) for one in surveys),
        copies=tuple(_copies(surveys)),
        input=input,
        refused=tuple(refused),
    )


def class_names(found: Survey) -> tuple[str, ...]:
    """The names of a split's classes; their numbers where they have none."""
    of = found.of
    if of.classes is not None:
        return of.classes
    number = of.labels.shape[1] if of.labels.ndim == 2 else int(of.labels.max(initial=-1)) + 1
    return tuple(f"{label:0{len(str(number - 1))}}" for label in range(number))


def _all_classes(surveys: Sequence[Survey]) -> tuple[str, ...]:
    known: dict[str, str] = {}
    for one in surveys:
        for name in class_names(one):
            known.setdefault(same(name), name)
    return tuple(known.values())


def _of_split(found: Survey, classes: tuple[str, ...], input: Size | None) -> SplitReport:
    of, readable = found.of, found.readable
    labels = of.labels
    names = class_names(found)
    counts = (
        labels.sum(axis=0, dtype=np.int64)
        if labels.ndim == 2
        else np.bincount(labels, minlength=len(names))
    )
    by_name = {same(name): number for name, number in zip(names, counts.tolist(), strict=True)}
    sizes = found.sizes[readable]
    in_order = sizes[np.argsort(sizes.astype(np.int64).prod(axis=1), kind="stable")]

    def those(wanted: NDArray[np.bool_]) -> dict[str, Size]:
        return {of.images.name(i): _size(found.sizes[i]) for i in readable[wanted].tolist()}

    formats = Counter(form for form in found.formats if form)
    odd: NDArray[np.bool_] = np.asarray(sizes.max(axis=1) > ODD_RATIO * sizes.min(axis=1))
    small: NDArray[np.bool_] = np.asarray((sizes < np.array(input or (0, 0))).any(axis=1))
    return SplitReport(
        name=of.split,
        images=len(of.images),
        classes={name: by_name.get(same(name), 0) for name in classes},
        broken={
            **of.left_out,
            **{of.images.name(index): why for index, why in found.broken.items()},
        },
        smallest=_size(in_order[0]) if len(in_order) else None,
        median=_size(in_order[(len(in_order) - 1) // 2]) if len(in_order) else None,
        largest=_size(in_order[-1]) if len(in_order) else None,
        odd=those(odd),
        formats=dict(sorted(formats.items(), key=lambda item: (-item[1], item[0]))),
        turned=int(found.turned.sum()),
        enlarged=those(small),
        notes=of.notes,
        pixels=None
        if found.labelled is None
        else dict(zip(names, found.labelled.tolist(), strict=False)),
        ignored=0 if found.labelled is None else int(found.labelled[IGNORED]),
    )


def _size(row: NDArray[np.int32]) -> Size:
    rows, columns = row.tolist()
    return rows, columns


def _copies(surveys: Sequence[Survey]) -> Iterator[Copies]:
    """Images whose pixels are there more than once, in the order of their first places."""
    owners = np.concatenate([np.full(len(one.readable), i) for i, one in enumerate(surveys)])
    numbers = np.concatenate([one.readable for one in surveys])
    prints = np.concatenate([one.pixels[one.readable] for one in surveys])
    if not len(prints):
        return
    _, group, sizes = np.unique(prints, axis=0, return_inverse=True, return_counts=True)
    group = group.reshape(-1)
    members: dict[int, list[tuple[int, int]]] = {}
    for at in np.flatnonzero(sizes[group] > 1).tolist():
        members.setdefault(int(group[at]), []).append((int(owners[at]), int(numbers[at])))
    for places in members.values():
        files = {surveys[owner].files[number].tobytes() for owner, number in places}
        yield Copies(
            places=tuple(_place(surveys[owner], number) for owner, number in places),
            same="file" if len(files) == 1 else "pixels",
        )


def _place(found: Survey, number: int) -> Place:
    of, names = found.of, class_names(found)
    labels = of.labels[number]
    its = np.flatnonzero(labels).tolist() if of.labels.ndim == 2 else [int(labels)]
    return Place(
        split=of.split,
        file=of.images.name(number),
        classes=tuple(names[label] for label in its),
    )
