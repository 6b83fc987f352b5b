"""``data_report``: a data set in figures, before a net is trained on it."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vggspec.base.arguments import StrPath
from vggspec.base.catalogue.data import EmptyClass, TooManyBadImages, UnlikeClasses
from vggspec.base.catalogue.evaluating import NoImages
from vggspec.base.catalogue.masks import NoMasks
from vggspec.base.class_names import same
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.recipe import TrainRecipe
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count
from vggspec.compiler.ir import ImageInput
from vggspec.compiler.lower import Lowered, lower
from vggspec.data.annotated import Examples
from vggspec.data.classed import Classed, flags_of, open_classed
from vggspec.data.contact_sheet import Row, write_sheet
from vggspec.data.data_report import ODD_RATIO, DataReport, class_names, summed_up
from vggspec.data.decode import BadImageError, Pixels, decode
from vggspec.data.left_out import FIRST, MAX_SHARE
from vggspec.data.mask import painted
from vggspec.data.masked import Masked, open_masked
from vggspec.data.packed import find_packed, name_of
from vggspec.data.survey import Survey, survey
from vggspec.lang.loading import load
from vggspec.training.augment import central_region
from vggspec.training.dataset import DataSet, open_data

SPLITS = ("train", "val", "test")

SHEET_CLASSES = 24
SHEET_IMAGES = 8
SHEET_PX = 96


def data_report(
    folder: StrPath,
    spec: StrPath | None = None,
    *,
    sheet: StrPath | None = None,
    watch: Watcher = SILENT,
) -> DataReport:
    """Look at every image of a data set, and sum up what was found.

    Each image is read and decoded, in threads. The report has the images of each class, their
    sizes and formats, those that cannot be read, and those that are there more than once: within a
    split, in several splits, or in different classes. Equal are images whose files are equal, and
    those whose upright pixels are; a photo that was compressed again or rescaled is not recognised.

    Args:
        folder: Folder with the splits ``train``, ``val`` and ``test``, as far as they exist, in any
            layout that training reads; or one without splits.
        spec: A net that is to be trained on them: the report then says whether training would
            refuse the data, and which images are smaller than the net's input.
        sheet: A PNG to write, with some images of each class; of pictures with masks, some that
            show it, under the colours of their labels.
        watch: Receives the progress.

    Raises:
        VggspecError: the folder has no images, the spec has a mistake, or the system refuses to
            write.
        MissingLibraryError: the images are in shards, and webdataset is not installed.
    """
    lowered = None if spec is None else lower(load(os.fspath(spec)))
    return report_for(Path(folder), lowered, sheet, watch)[0]


def report_for(
    root: Path, lowered: Lowered | None, sheet: StrPath | None = None, watch: Watcher = SILENT
) -> tuple[DataReport, DataSet | None]:
    """The report on a folder, and the data set that training makes of it if it does."""
    refused: list[Report] = []
    data: DataSet | None = None
    if lowered is not None:
        try:
            share = lowered.experiment.train.validate_on
            data = open_data(root, lowered.network, watch, share)
        except VggspecError as error:
            refused += error.reports
    if data is not None:
        splits = splits_of(data)
    else:
        try:
            splits, wrong = _listed(root, watch)
        except VggspecError as error:  # training says better what a folder should contain
            raise VggspecError(*(refused or error.reports)) from error
        known = {each.what.code for each in refused}
        refused += [each for each in wrong if each.what.code not in known]
    surveys = [survey(each, watch) for each in splits]
    size = None
    if lowered is not None:
        image, recipe = lowered.network.input, lowered.experiment.train
        size = image.height, image.width
        for one in surveys:
            _leave_out_long(one, image, recipe)
    refused += _too_many(root, surveys)
    if sheet is not None:
        write_data_sheet(sheet, root, surveys[0])
    return summed_up(root, surveys, input=size, refused=refused), data


def splits_of(data: DataSet) -> tuple[Classed, ...]:
    """Both splits of a data set that training accepts."""
    if isinstance(data.train, Masked) and isinstance(data.val, Masked):
        return _with_masks(data.train, "train"), _with_masks(data.val, "val")
    return tuple(
        Classed(
            split=name,
            images=split.annotated if isinstance(split, Examples) else split,
            labels=flags_of(split.annotated)
            if isinstance(split, Examples)
            else split.labels.astype(np.int64),
            classes=data.classes,
            left_out=split.annotated.left_out if isinstance(split, Examples) else {},
            notes=data.notes if name == "train" else (),
        )
        for name, split in (("train", data.train), ("val", data.val))
    )


def _with_masks(split: Masked, name: str) -> Classed:
    """A split of pictures with masks, whose classes are known when these have been read."""
    return Classed(
        split=name,
        images=split,
        labels=np.zeros((len(split), len(split.classes)), np.uint8),
        classes=split.classes,
        left_out=dict(split.left_out),
        notes=split.notes,
    )


def _masked(root: Path, watch: Watcher) -> tuple[Classed, ...]:
    """The splits of pictures with masks; none where the folder has no layout of these.

    Raises:
        VggspecError: it has one, and it cannot be used.
    """
    found = []
    for split in SPLITS:
        try:
            found.append(_with_masks(open_masked(root, split, watch), split))
        except VggspecError as error:
            if not isinstance(error.reports[0].what, NoMasks):
                raise
    return tuple(found)


def write_data_sheet(path: StrPath, root: Path, found: Survey) -> None:
    """Write some images of each class, evenly spaced among those that can be read.

    Raises:
        VggspecError: the system refuses.
    """
    names, labels = class_names(found), found.of.labels
    is_readable = np.isin(np.arange(len(found.sizes)), found.readable)
    chosen = _spread(list(range(len(names))), SHEET_CLASSES)
    rows = []
    for label in chosen:
        has_it = labels[:, label] > 0 if labels.ndim == 2 else labels == label
        its = np.flatnonzero(has_it & is_readable).tolist()
        images = list(_thumbnails(found, _spread(its, SHEET_IMAGES)))
        below = count(int(has_it.sum()), "image")
        rows.append(Row(name=names[label], images=images, below=below))
    of = f"{len(chosen)} of " if len(chosen) < len(names) else ""
    title = f"{root}, {found.of.split}: {of}{count(len(names), 'class')}"
    write_sheet(path, title, rows, side=SHEET_PX)


def _thumbnails(found: Survey, indices: Sequence[int]) -> Iterator[Pixels]:
    for index in indices:
        try:
            images = found.of.images
            if isinstance(images, Masked):
                pixels = decode(images.read(index), "RGB", None)
                yield painted(pixels, images.mask(index, pixels.shape[:2]))
            else:
                yield decode(images.read(index), "RGB", SHEET_PX)
        except BadImageError:  # it was readable before
            continue


def _spread(values: Sequence[int], most: int) -> list[int]:
    """At most so many of the values, evenly spaced."""
    number = min(most, len(values))
    return [values[i * len(values) // number] for i in range(number)]


def _listed(root: Path, watch: Watcher) -> tuple[tuple[Classed, ...], list[Report]]:
    """The splits that exist, else the folder as a whole; and what training would refuse of them.

    Raises:
        VggspecError: there are no images.
    """
    found: list[Classed] = list(_masked(root, watch))
    if found:
        return tuple(found), []
    packed = None
    with contextlib.suppress(OSError):  # reported below
        packed = find_packed(root)
    has_no_val = packed is not None and name_of(packed, "val") == "test"
    for split in SPLITS[:2] if has_no_val else SPLITS:
        try:
            found += open_classed(root, split, watch)
        except VggspecError as error:
            if not isinstance(error.reports[0].what, NoImages):
                raise
    if not found and not root.is_dir():
        raise VggspecError(report(NoImages(tried=f"`{root}` is not a folder", split="train")))
    if not found:
        return open_classed(root, watch=watch), []
    wrong: list[Report] = []
    train, *others = found
    if train.split != "train" or train.classes is None:
        return tuple(found), wrong
    known = {same(name) for name in train.classes}
    for other in others:
        foreign = tuple(name for name in other.classes or () if same(name) not in known)
        if foreign and other.split == "val":
            what = UnlikeClasses(missing=foreign, known=train.classes)
            wrong.append(report(what, path=str(root)))
    if train.labels.ndim == 1:
        counts = np.bincount(train.labels, minlength=len(train.classes)).tolist()
        for name, number in zip(train.classes, counts, strict=True):
            if not number:
                wrong.append(report(EmptyClass(name=name, beside=""), path=str(root / "train")))
    return tuple(found), wrong


def _leave_out_long(found: Survey, image: ImageInput, recipe: TrainRecipe) -> None:
    """Count as broken what would become huge when it is rescaled, as training does."""
    sizes = found.sizes.astype(np.int64)
    is_odd = sizes.max(axis=1) > ODD_RATIO * np.maximum(sizes.min(axis=1), 1)
    for index in np.flatnonzero(is_odd).tolist():
        pixels = np.empty((*found.sizes[index].tolist(), 0), np.uint8)
        try:
            central_region(pixels, recipe.scale[1], image.height, image.width)
        except BadImageError as error:
            found.broken[index] = str(error)


def _too_many(root: Path, surveys: Sequence[Survey]) -> Iterator[Report]:
    """That more images are broken than training accepts, if they are."""
    total = sum(len(one.of.images) for one in surveys)
    bad = [f"{one.of.images.name(i)}: {why}" for one in surveys for i, why in one.broken.items()]
    if len(bad) > MAX_SHARE * total:
        what = TooManyBadImages(bad=len(bad), total=total, first=tuple(bad[:FIRST]))
        yield report(what, path=str(root))
