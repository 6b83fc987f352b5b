"""Data sets: where the images of each class are, listed and checked before any is decoded.

DIR/train/cat/1.jpg      DIR/val/cat/9.jpg       a folder for each class
DIR/train/000000.tar     DIR/val/000000.tar      WebDataset shards, see ``shards.py``

For a net of boxes they are annotated, see ``vggspec.data.annotated``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from vggspec.catalogue import count, data
from vggspec.catalogue.annotations import BoxesMismatch
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.data.annotated import Annotated, Examples, Pacing, open_annotated, silently
from vggspec.data.digest import Digest
from vggspec.data.folder import list_folder, subfolders
from vggspec.data.shards import ShardSplit, list_shards, open_shards, read_classes
from vggspec.data.split import Split
from vggspec.diagnostic import Diagnostic, Report, Reports, VggspecError, report
from vggspec.source import reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set on disk, and its classes in the order of their numbers."""

    root: Path
    classes: tuple[str, ...]
    train: Split
    val: Split
    fingerprint: str
    """SHA-256 of the names and sizes of all files, so that another run can tell other data."""

    stamp: str
    """The same with the times of the files, so that nothing is remembered of other images."""

    notes: tuple[str, ...] = ()
    """What of it is not used, in words."""


def open_data(root: Path, network: Network, pacing: Pacing = silently) -> DataSet:
    """List the images of a data set and hold its classes against the net.

    ``val`` may lack classes of ``train``. A net of boxes gets ``Examples``; ``pacing`` shows how
    far the reading of their annotations has come.

    Raises:
        VggspecError: there is no such data, a class is empty or foreign, a shard is damaged, too
            many annotations are bad, or the net's last layer has another number of outputs.
        MissingLibraryError: the data is in shards, and webdataset is not installed.
    """
    last = network[network.outputs[0].layer]
    if isinstance(last.op, Boxes):
        return _open_annotated(root, last, pacing)
    for folder in (root, root / "train", root / "val"):
        if not folder.is_dir():
            raise _no_data(f"`{folder}` is not a folder")
    try:
        opened = _open_shards if list_shards(root / "train") else _open_folders
        return opened(root, network)
    except OSError as error:
        raise _no_data(f"`{root}` cannot be read: {reason(error)}") from error


def _open_folders(root: Path, network: Network) -> DataSet:
    classes = subfolders(root / "train")
    foreign = tuple(name for name in subfolders(root / "val") if name not in classes)
    wrong = Reports()
    if foreign:
        wrong.add(_at(data.UnlikeClasses(missing=foreign), root))
    _hold_against(network, len(classes), root, wrong)
    wrong.raise_if_any()  # a folder of something else would otherwise be listed to its end
    digest = Digest()
    train = list_folder(root / "train", classes, digest)
    val = list_folder(root / "val", classes, digest)
    return _checked(root, classes, train, val, digest)


def _open_shards(root: Path, network: Network) -> DataSet:
    classes = read_classes(root)
    wrong = Reports()
    if classes is not None:
        _hold_against(network, len(classes), root, wrong)
        wrong.raise_if_any()  # before shards are indexed
    digest = Digest()
    train = open_shards(root / "train", digest)
    val = open_shards(root / "val", digest)
    if classes is None:
        number = int(train.labels.max(initial=-1)) + 1
        _hold_against(network, number, root, wrong)
        wrong.raise_if_any()
        classes = tuple(f"{label:0{len(str(number - 1))}}" for label in range(number))
    for split in (train, val):
        _hold_in_range(split, len(classes))
    return _checked(root, classes, train, val, digest)


def _open_annotated(root: Path, boxes: Layer, pacing: Pacing) -> DataSet:
    train = open_annotated(root, "train", pacing=pacing)
    _hold_boxes_against(boxes, len(train.classes), root)
    val = open_annotated(root, "val", train.classes, pacing)
    digest = Digest()
    for split in (train, val):
        digest.add_digest(split.fingerprint, split.stamp)
    opened = _checked(root, train.classes, Examples(train), Examples(val), digest)
    return replace(opened, notes=tuple(chain(_notes("train", train), _notes("val", val))))


def _notes(split: str, annotated: Annotated) -> Iterator[str]:
    if annotated.num_without:
        yield f"{count(annotated.num_without, 'image')} of {split} without objects, passed over"
    if annotated.num_clipped:
        yield f"boxes on {count(annotated.num_clipped, 'image')} of {split} cut off at the edge"
    if annotated.left_out:
        first = "".join(f"\n  {name}: {why}" for name, why in list(annotated.left_out.items())[:5])
        left_out = count(len(annotated.left_out), "image")
        yield f"{left_out} of {split} left out, whose annotations cannot be true:{first}"


def _checked(
    root: Path, classes: tuple[str, ...], train: Split, val: Split, digest: Digest
) -> DataSet:
    empty = np.flatnonzero(np.bincount(train.labels, minlength=len(classes)) == 0).tolist()
    if empty:
        raise VggspecError(*(_at(data.EmptyClass(name=classes[i]), root / "train") for i in empty))
    if not len(val):
        raise _no_data(f"`{root / 'val'}` holds no images")
    return DataSet(
        root=root,
        classes=classes,
        train=train,
        val=val,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
    )


def _hold_against(network: Network, classes: int, root: Path, wrong: Reports) -> None:
    if classes != network.num_classes:
        layer = network.weight_layers[-1].name
        what = data.ClassMismatch(classes=classes, outputs=network.num_classes, layer=layer)
        wrong.add(_at(what, root))


def _hold_boxes_against(boxes: Layer, classes: int, root: Path) -> None:
    assert isinstance(boxes.op, Boxes)
    channels = boxes.type.channels
    if not boxes.op.shared and channels != 4 * classes:
        what = BoxesMismatch(classes=classes, boxes=channels // 4)
        if boxes.origin is None:
            raise VggspecError(_at(what, root))
        raise VggspecError(report(what, boxes.origin.source, boxes.origin.span))


def _hold_in_range(split: ShardSplit, classes: int) -> None:
    foreign = np.flatnonzero(split.labels >= classes)
    if len(foreign):
        first = int(foreign[0])
        why = f"its class is {split.labels[first]}, there are 0 to {classes - 1}"
        shard, name = split.place(first)
        raise VggspecError(_at(data.BadSample(name=name, why=why), shard))


def _no_data(tried: str) -> VggspecError:
    return VggspecError(report(data.NoData(tried=tried)))


def _at(what: Diagnostic, path: Path) -> Report:
    return report(what, path=str(path))
