"""Data sets: where the images of each class are, listed and checked before any is decoded.

DIR/train/cat/1.jpg      DIR/val/cat/9.jpg       a folder for each class
DIR/train/000000.tar     DIR/val/000000.tar      WebDataset shards, see ``shards.py``

and data sets in files of their own, see ``vggspec.data.packed``.

With a share to validate on, one folder: DIR/cat/1.jpg, or DIR/train as above without DIR/val.

For a net of boxes they are annotated, see ``vggspec.data.annotated``; for a net of label maps they
have masks, see ``vggspec.data.masked``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggspec.base.catalogue import data
from vggspec.base.catalogue.annotations import BoxesMismatch
from vggspec.base.catalogue.masks import MasksMismatch
from vggspec.base.class_names import same
from vggspec.base.diagnostic import Diagnostic, Report, VggspecError, report
from vggspec.base.recipe import percent
from vggspec.base.render import shown
from vggspec.base.reports import Reports
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import count, reason
from vggspec.compiler.ir import POSTERIOR_MAP, Layer, Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.results import result_of
from vggspec.data.annotated import Annotated, Examples, open_annotated
from vggspec.data.digest import Digest
from vggspec.data.folder import (
    Skipped,
    has_images,
    images_below,
    list_folder,
    subfolders,
    without_images,
)
from vggspec.data.labelled import holds_classes
from vggspec.data.masked import Masked, open_masked
from vggspec.data.packed import Packed, find_packed, name_of, open_packed, root_of
from vggspec.data.remote import WHOLE
from vggspec.data.shards import ShardSplit, list_shards, open_shards, read_classes
from vggspec.data.split import Split, hold_out


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set on disk, and its classes in the order of their numbers."""

    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    fingerprint: str
    """SHA-256 of the names and sizes of all files, so that a resumed run can detect other data."""

    stamp: str
    """The same with the times of the files, so that no result is reused for other images."""

    notes: tuple[str, ...] = ()
    """What of it is not used, in words."""


def open_data(
    root: Path, network: Network, watch: Watcher = SILENT, validate_on: float | None = None
) -> DataSet:
    """List the images of a data set and compare its classes with the net's.

    ``val`` may lack classes of ``train``; with ``validate_on`` that share of each class is kept
    apart from one folder. A net of boxes gets ``Examples``, a net of label maps ``Masked``;
    ``watch`` receives how many of their annotations have been read.

    Raises:
        VggspecError: there is no such data, a class is empty or foreign, a shard is damaged, too
            many annotations are bad, the net's last layer has another number of outputs, or no
            images can be kept apart.
        MissingLibraryError: the data is in shards, and webdataset is not installed.
    """
    last = network[network.outputs[0].layer]
    if isinstance(last.op, Boxes):
        if validate_on is not None:
            why = "the net gives boxes, whose annotations come split"
            raise VggspecError(_at(data.NotKeptApart(why=why, way="leave it out"), root))
        return _open_annotated(root, last, watch)
    if result_of(network) == POSTERIOR_MAP:
        if validate_on is not None:
            why = "the net labels positions, and pictures with masks come split"
            raise VggspecError(_at(data.NotKeptApart(why=why, way="leave it out"), root))
        return _open_masked(root, last, watch)
    try:
        packed = find_packed(root)
        if packed is not None:
            return _open_packed(root_of(packed, root), packed, network, validate_on)
        if validate_on is not None:
            return _open_one(root, network, validate_on)
    except OSError as error:
        raise _unreadable(error, root) from error
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise _no_data(f"`{folder}` is not a folder")
    try:
        opened = _open_shards if list_shards(root / "train") else _open_folders
        return opened(root, network)
    except OSError as error:
        raise _unreadable(error, root) from error


def _unreadable(error: OSError, root: Path) -> VggspecError:
    where = shown(str(error.filename or root))
    return _no_data(f"`{where}` cannot be read: {reason(error)}")


def _open_packed(root: Path, packed: Packed, network: Network, share: float | None) -> DataSet:
    digest = Digest()
    if share is not None and name_of(packed, "val") not in (None, "test", WHOLE):
        why = "the data has a split for validation of its own"
        what = data.NotKeptApart(why=why, way="leave `validate on` out")
        raise VggspecError(_at(what, root))
    is_whole = share is not None and name_of(packed, "train") is None
    of_train = WHOLE if is_whole else "train"
    names, train = open_packed(packed, of_train, root, digest, network.num_classes)
    classes = names or _numbered(train)
    wrong = Reports()
    _hold_against(network, names or (), len(classes), root, wrong)
    wrong.raise_if_any()
    if share is not None:
        return _kept_apart(root, classes, train, share, digest, (), root)
    of_val, val = open_packed(packed, "val", root, digest, network.num_classes)
    if names is not None and of_val is not None and names != of_val:
        missing = tuple(name for name in of_val if name not in names)
        if missing:
            raise VggspecError(_at(data.UnlikeClasses(missing=missing, known=names), root))
        val.labels = np.array([names.index(name) for name in of_val], np.int32)[val.labels]
    _hold_in_range(val, len(classes))
    notes = without_images("val", classes, val.labels)
    if name_of(packed, "val") == "test":
        notes.append("validation is on the test images: the data has no others")
    return _checked(root, classes, train, val, digest, tuple(notes), root)


def _open_one(root: Path, network: Network, share: float) -> DataSet:
    """The images of one folder, or of ``train`` in it, in two splits."""
    if not root.is_dir():
        raise _no_data(f"`{root}` is not a folder")
    folder = root / "train" if holds_classes(root / "train") else root
    if folder != root and (root / "val").is_dir():
        why = "the data has a `val` of its own"
        way = "leave `validate on` out, or name the folder of the classes after `--data`"
        raise VggspecError(_at(data.NotKeptApart(why=why, way=way), root))
    digest, skipped, wrong = Digest(), Skipped(), Reports()
    whole: Split
    if list_shards(folder):
        names = read_classes(root)
        whole = open_shards(folder, digest, skipped, "train")
        classes = names or _numbered(whole)
        _hold_against(network, names or (), len(classes), root, wrong)
    else:
        classes = subfolders(folder, skipped)
        if len(classes) != network.num_classes:
            wrong.add(_at(_mismatch(folder, network, classes, classes, skipped), folder))
        wrong.raise_if_any()
        whole = list_folder(folder, classes, digest, skipped, "train")
    wrong.raise_if_any()
    notes = skipped.notes(folder.name)
    return _kept_apart(root, classes, whole, share, digest, notes, folder)


def _kept_apart(
    root: Path,
    classes: tuple[str, ...],
    whole: Split,
    share: float,
    digest: Digest,
    notes: tuple[str, ...],
    folder: Path,
) -> DataSet:
    _hold_in_range(whole, len(classes))
    counts = np.bincount(whole.labels, minlength=len(classes))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        raise VggspecError(*(_empty(classes[i], folder) for i in empty))
    train, val = hold_out(whole, share, root)
    none_left = counts == np.bincount(val.labels, minlength=len(classes))
    if none_left.any():
        first = int(np.flatnonzero(none_left)[0])
        why = f"class `{shown(classes[first])}` has {count(int(counts[first]), 'image')}, none of"
        what = data.NotKeptApart(
            why=f"{why} which would be left to train on",
            way="add images, or keep a smaller share apart",
        )
        raise VggspecError(_at(what, folder))
    digest.add_digest(*[f"validate on {share!r}"] * 2)
    apart = f"{count(len(val), 'image')} kept apart for validation, {percent(share)} of each class"
    return _checked(root, classes, train, val, digest, (*notes, apart))


def _open_folders(root: Path, network: Network) -> DataSet:
    skipped = {split: Skipped() for split in ("train", "val")}
    classes, of_val = (subfolders(root / split, skipped[split]) for split in skipped)
    numbers = {same(name): number for number, name in enumerate(classes)}
    foreign = tuple(name for name in of_val if same(name) not in numbers)
    wrong = Reports()
    if foreign:
        empty = tuple(name for name in foreign if not has_images(root / "val" / name))
        what = data.UnlikeClasses(missing=foreign, known=classes, empty=empty)
        wrong.add(_at(what, root))
    if len(classes) != network.num_classes:
        wrong.add(_at(_mismatch(root / "train", network, classes, of_val, skipped["train"]), root))
    wrong.raise_if_any()  # a folder of something else would otherwise be listed to its end
    # Those of val are called as it calls them, where one letter is written in two ways.
    by_number = {numbers[same(name)]: name for name in of_val}
    folders = tuple(by_number.get(number, name) for number, name in enumerate(classes))
    digest = Digest()
    train = list_folder(root / "train", classes, digest, skipped["train"])
    val = list_folder(root / "val", folders, digest, skipped["val"])
    notes = (
        *skipped["train"].notes("train"),
        *skipped["val"].notes("val"),
        *without_images("val", classes, val.labels),
    )
    return _checked(root, classes, train, val, digest, notes)


def _mismatch(
    folder: Path,
    network: Network,
    classes: tuple[str, ...],
    of_val: tuple[str, ...],
    skipped: Skipped,
) -> Diagnostic:
    """The mismatch, with the folders that are probably not classes."""
    in_val = set(map(same, of_val))
    return data.ClassMismatch(
        classes=len(classes),
        outputs=network.num_classes,
        layer=network.weight_layers[-1].name,
        names=classes,
        empty=tuple(name for name in classes if not has_images(folder / name)),
        only_in_train=tuple(name for name in classes if same(name) not in in_val),
        dangling=skipped.links,
        groups=tuple(name for name in classes if _is_group(folder / name)),
    )


def _is_group(folder: Path) -> bool:
    """Whether a class folder looks as if it were a folder of class folders."""
    beside = Skipped()
    try:
        return len(subfolders(folder, beside)) > 1 and not beside.has("loose")
    except (OSError, VggspecError):
        return False


def _open_shards(root: Path, network: Network) -> DataSet:
    classes = read_classes(root)
    wrong = Reports()
    if classes is not None:
        _hold_against(network, classes, len(classes), root, wrong)
        wrong.raise_if_any()  # before shards are indexed
    digest = Digest()
    skipped = {split: Skipped() for split in ("train", "val")}
    train, val = (open_shards(root / split, digest, skipped[split]) for split in skipped)
    if classes is None:
        classes = _numbered(train)
        _hold_against(network, (), len(classes), root, wrong)
        wrong.raise_if_any()
    for split in (train, val):
        _hold_in_range(split, len(classes))
    notes = (
        *skipped["train"].notes("train"),
        *skipped["val"].notes("val"),
        *without_images("val", classes, val.labels),
    )
    return _checked(root, classes, train, val, digest, notes)


def _numbered(split: Split) -> tuple[str, ...]:
    """The numbers of classes without names, as names that sort like them."""
    number = int(split.labels.max(initial=-1)) + 1
    return tuple(f"{label:0{len(str(number - 1))}}" for label in range(number))


def _open_annotated(root: Path, boxes: Layer, watch: Watcher) -> DataSet:
    train = open_annotated(root, "train", watch=watch)
    _hold_boxes_against(boxes, len(train.classes), root)
    val = open_annotated(root, "val", train.classes, watch)
    digest = Digest()
    for split in (train, val):
        digest.add_digest(split.fingerprint, split.stamp)
    notes = (*_notes("train", train), *_notes("val", val))
    return _checked(root, train.classes, Examples(train), Examples(val), digest, notes)


def _open_masked(root: Path, last: Layer, watch: Watcher) -> DataSet:
    train = open_masked(root, "train", watch)
    _hold_masks_against(train, last)
    val = open_masked(root, "val", watch)
    digest = Digest()
    for split in (train, val):
        digest.add_digest(split.fingerprint, split.stamp)
    return DataSet(
        root=root,
        classes=train.classes,
        train=train,
        val=val,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
        notes=(*train.notes, *val.notes),
    )


def _hold_masks_against(masked: Masked, last: Layer) -> None:
    """Check that the net labels as many classes as the masks have.

    Raises:
        VggspecError: it does not.
    """
    classes, channels = len(masked.classes), last.type.channels
    if classes != channels:
        what = MasksMismatch(classes=classes, channels=channels, names=masked.classes)
        if last.origin is None:
            raise VggspecError(_at(what, masked.root))
        raise VggspecError(report(what, last.origin.source, last.origin.span))


def _notes(split: str, annotated: Annotated) -> Iterator[str]:
    yield from annotated.notes
    if annotated.num_without:
        yield f"{count(annotated.num_without, 'image')} of {split} without objects, skipped"
    if annotated.num_clipped:
        yield f"boxes on {count(annotated.num_clipped, 'image')} of {split} cut off at the edge"
    if annotated.left_out:
        first = "".join(f"\n  {name}: {why}" for name, why in list(annotated.left_out.items())[:5])
        left_out = count(len(annotated.left_out), "image")
        yield f"{left_out} of {split} left out, whose annotations cannot be true:{first}"


def _checked(
    root: Path,
    classes: tuple[str, ...],
    train: Split,
    val: Split,
    digest: Digest,
    notes: tuple[str, ...],
    folder: Path | None = None,
) -> DataSet:
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0).tolist()
    if empty:
        raise VggspecError(*(_empty(classes[i], folder or root / "train") for i in empty))
    if not len(val):
        raise _no_data(f"`{root / 'val'}` holds no images")
    return DataSet(
        root=root,
        classes=classes,
        train=train,
        val=val,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
        notes=notes,
    )


def _empty(name: str, folder: Path) -> Report:
    beside, images = Skipped(), 0
    if (folder / name).is_dir():
        images = sum(1 for _ in images_below(folder / name, beside))
    words = "those of another class: it is a link to their folder" if images else beside.in_words()
    return _at(data.EmptyClass(name=name, beside=words), folder)


def _hold_against(
    network: Network, names: tuple[str, ...], classes: int, root: Path, wrong: Reports
) -> None:
    if classes != network.num_classes:
        layer = network.weight_layers[-1].name
        outputs = network.num_classes
        what = data.ClassMismatch(classes=classes, outputs=outputs, layer=layer, names=names)
        wrong.add(_at(what, root))


def _hold_boxes_against(boxes: Layer, classes: int, root: Path) -> None:
    assert isinstance(boxes.op, Boxes)
    channels = boxes.type.channels
    if not boxes.op.shared and channels != 4 * classes:
        what = BoxesMismatch(classes=classes, boxes=channels // 4)
        if boxes.origin is None:
            raise VggspecError(_at(what, root))
        raise VggspecError(report(what, boxes.origin.source, boxes.origin.span))


def _hold_in_range(split: Split, classes: int) -> None:
    foreign = np.flatnonzero(split.labels >= classes)
    if not len(foreign):
        return
    first = int(foreign[0])
    why = f"its class is {split.labels[first]}, there are 0 to {classes - 1}"
    if isinstance(split, ShardSplit):
        shard, name = split.place(first)
        raise VggspecError(_at(data.BadSample(name=name, why=why), shard))
    file, _, number = split.name(first).rpartition(": ")
    raise VggspecError(_at(data.BadPacked(why=f"image {number}: {why}"), Path(file)))


def _no_data(tried: str) -> VggspecError:
    return VggspecError(report(data.NoData(tried=tried)))


def _at(what: Diagnostic, path: Path) -> Report:
    return report(what, path=str(path))
