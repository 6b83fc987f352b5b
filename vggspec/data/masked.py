"""Pictures with masks: in folders of pictures and of masks, or as Pascal VOC or Cityscapes have
them.

    DIR/images/train/1.jpg     DIR/masks/train/1.png     DIR/classes.txt
    DIR/train/images/1.jpg     DIR/train/masks/1.png     DIR/classes.txt
    DIR/JPEGImages/1.jpg       DIR/SegmentationClass/1.png
                               DIR/ImageSets/Segmentation/train.txt
    DIR/leftImg8bit/train/ulm/ulm_1_leftImg8bit.png
    DIR/gtFine/train/ulm/ulm_1_gtFine_labelTrainIds.png, or labelIds.png

In the first two, pictures may lie in folders below, each with its mask in a folder of that name.
VOC's layout has VOC's classes unless there is a ``classes.txt``.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggspec.base.catalogue import masks as catalogue
from vggspec.base.diagnostic import Diagnostic, VggspecError, report
from vggspec.base.regular_files import read_file
from vggspec.base.render import shown
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.base.wording import count, reason
from vggspec.data.annotation import BadAnnotationError, checked_name
from vggspec.data.decode import BadImageError
from vggspec.data.digest import Digest
from vggspec.data.folder import Skipped, by_stem, files_below, images_below, stem_of
from vggspec.data.left_out import LeftOut
from vggspec.data.mask import IGNORED, MAX_CLASSES, Mask, NotLabelsError, decode_mask
from vggspec.data.read import MAX_FILE_BYTES
from vggspec.data.shards import read_classes

MAX_LIST_BYTES = 64 << 20  # of a list of pictures; a line has a few dozen bytes

#: Masks that are looked at before any is trained on.
LOOKED_AT = 16

VOC = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)  # fmt: skip

#: Of Cityscapes' 34 labels, 0 to 33, those of its 19 classes, in the order of these.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_LABELS = 34

_PICTURE, _TRAIN_IDS, _IDS = (
    "_leftImg8bit.png",
    "_gtFine_labelTrainIds.png",
    "_gtFine_labelIds.png",
)

#: What a value of a mask is, where it is no label.
_UNKNOWN = -1


@dataclass(slots=True, kw_only=True, eq=False)
class Masked:
    """The pictures of a split that have masks, in the order of their names. A ``Split``."""

    root: Path
    classes: tuple[str, ...]
    """In the order of their labels."""

    labels: NDArray[np.int32]
    """``(N,)``: 0 for each picture, whose classes are in its mask."""

    names: NDArray[np.bytes_]
    """``(N,)``: the files of the pictures, seen from ``root``."""

    masks: NDArray[np.bytes_]
    """``(N,)``: the files of their masks."""

    label_of: NDArray[np.int16]
    """``(256,)``: the label that a value of a mask stands for, or -1."""

    left_out: Mapping[str, str]
    """Pictures that have no mask, or that cannot be found, each with the reason."""

    fingerprint: str
    """SHA-256 of the names and sizes of all files."""

    stamp: str
    """The same with the times of the files."""

    notes: tuple[str, ...] = ()
    """What of the folders is not used, in words."""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The path of a picture."""
        return self._path(self.names[index])

    def read(self, index: int) -> bytes:
        """The content of a picture's file.

        Raises:
            BadImageError: it cannot be read.
        """
        return _content(self.name(index))

    def mask(self, index: int, size: tuple[int, int]) -> Mask:
        """The labels of a picture of that size, rows and columns, when it is upright.

        Raises:
            BadImageError: the mask has another size, is none, or labels no pixel.
        """
        try:
            mask, values = decode_mask(_content(self._path(self.masks[index])))
            if mask.shape != size:
                found, wanted = (f"{columns} × {rows}" for rows, columns in (mask.shape, size))
                raise BadImageError(f"it has {found} pixels, the picture {wanted}")
            labels = self.label_of[list(values)]
            if labels.min(initial=0) == _UNKNOWN:
                unknown = values[int(labels.argmin())]
                raise BadImageError(f"it has the label {unknown}, of no class")
            if labels.min(initial=IGNORED) == IGNORED:
                raise BadImageError("it labels no pixel")
        except BadImageError as error:
            raise BadImageError(f"its mask: {error}") from error
        if labels.tolist() == list(values):
            return mask
        table = self.label_of.astype(np.uint8).tolist()
        return np.asarray(Image.fromarray(mask).point(table))

    def path_of_mask(self, index: int) -> str:
        """The path of a mask."""
        return self._path(self.masks[index])

    def _path(self, name: bytes) -> str:
        return os.path.join(self.root, os.fsdecode(name))


class _Found(NamedTuple):
    """The files of a split before they are looked at."""

    pairs: Iterable[tuple[str, str | None]]
    """Pictures and masks seen from the root; None where a mask is missing."""

    classes: tuple[str, ...] | None
    """Those of the layout; None where ``classes.txt`` has to name them."""

    label_of: NDArray[np.int16] | None = None
    notes: tuple[str, ...] = ()


def open_masked(root: Path, split: str = "val", watch: Watcher = SILENT) -> Masked:
    """List the pictures of a split and their masks, and look at a few of the masks.

    A folder may have more than one layout: Cityscapes' comes first, then VOC's list.

    Raises:
        VggspecError: there are none, their classes are not known, too many masks are missing, or
            those that are looked at have no labels.
    """
    if not root.is_dir():
        raise _no_masks(f"`{root}` is not a folder")
    try:
        found = _find(root, split)
        masked = _collected(root, split, found, watch)
    except OSError as error:
        where = shown(str(error.filename or root))
        raise _no_masks(f"`{where}` cannot be read: {reason(error)}") from error
    _look(masked)
    return masked


def _find(root: Path, split: str) -> _Found:
    if (root / "leftImg8bit" / split).is_dir():
        return _cityscapes(root, split)
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if listed.is_file():
        return _voc(root, listed)
    places = (("images", split), ("masks", split)), ((split, "images"), (split, "masks"))
    for pictures, masks in places:
        if root.joinpath(*pictures).is_dir() and root.joinpath(*masks).is_dir():
            return _folders(root, os.path.join(*pictures), os.path.join(*masks))
    raise _no_masks(
        f"`{root}` has no `images/{split}` with `masks/{split}`, no `{split}/images` with"
        f" `{split}/masks`, no `ImageSets/Segmentation/{split}.txt`, no `leftImg8bit/{split}`"
    )


def _folders(root: Path, pictures: str, masks: str) -> _Found:
    skipped = Skipped()
    named = {stem_of(name): name for name in files_below(root / masks, ".png")}
    pairs: list[tuple[str, str | None]] = []
    for name, _ in images_below(root / pictures, skipped):
        mask = named.pop(stem_of(name), None)
        pairs.append((os.path.join(pictures, name), mask and os.path.join(masks, mask)))
    notes = list(skipped.notes(pictures))
    if named:
        without = count(len(named), "mask")
        notes.append(f"{without} in {masks} without a picture ({shown(min(named.values()))})")
    return _Found(pairs, None, notes=tuple(notes))


def _voc(root: Path, listed: Path) -> _Found:
    try:
        lines = read_file(listed, MAX_LIST_BYTES).decode().splitlines()
        names = [checked_name(name) for name in sorted({line.strip() for line in lines}) if name]
    except (UnicodeDecodeError, BadAnnotationError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise _no_masks(f"`{shown(str(listed))}` cannot be used: {why}") from error
    below = {os.path.dirname(name) for name in names}
    files = {folder: by_stem(root / "JPEGImages" / folder) for folder in below}
    pairs: list[tuple[str, str | None]] = []
    for name in names:
        folder, own = os.path.split(name)
        picture = os.path.join("JPEGImages", folder, files[folder].get(own, f"{own}.jpg"))
        mask = os.path.join("SegmentationClass", f"{name}.png")
        pairs.append((picture, mask if (root / mask).is_file() else None))
    return _Found(pairs, VOC)


def _cityscapes(root: Path, split: str) -> _Found:
    pictures, masks = os.path.join("leftImg8bit", split), os.path.join("gtFine", split)
    stems = [name.removesuffix(_PICTURE) for name in sorted(files_below(root / pictures, _PICTURE))]
    of_training = {f"{each}{_TRAIN_IDS}" for each in stems}
    present = set(files_below(root / masks, ".png")) if (root / masks).is_dir() else set()
    ending = _TRAIN_IDS if not present.isdisjoint(of_training) else _IDS
    pairs = [
        (
            os.path.join(pictures, f"{each}{_PICTURE}"),
            os.path.join(masks, f"{each}{ending}") if f"{each}{ending}" in present else None,
        )
        for each in stems
    ]
    if ending == _TRAIN_IDS:
        return _Found(pairs, CITYSCAPES)
    label_of = np.full(256, _UNKNOWN, np.int16)
    label_of[:_CITYSCAPES_LABELS] = label_of[IGNORED] = IGNORED  # a licence plate has -1 there
    label_of[list(CITYSCAPES_IDS)] = range(len(CITYSCAPES_IDS))
    return _Found(pairs, CITYSCAPES, label_of)


def _collected(root: Path, split: str, found: _Found, watch: Watcher) -> Masked:
    """The pictures that have masks, in arrays."""
    named = None if found.classes is CITYSCAPES else read_classes(root)
    classes = named or found.classes
    if classes is None:
        raise _at(catalogue.NoMaskClasses(why="there is no `classes.txt`"), root)
    if len(classes) > MAX_CLASSES:
        raise _at(catalogue.NoMaskClasses(why=f"it names {len(classes)}"), root / "classes.txt")
    pairs = list(found.pairs)
    if not pairs:
        raise _no_masks(f"`{root}` has no pictures of {split}")
    digest = Digest()
    left_out = LeftOut(len(pairs), str(root), what=catalogue.TooManyBadMasks)
    names, masks = [], []
    for done, (name, mask) in enumerate(pairs, start=1):
        now = Progress(doing=f"masks of {split}", done=done, total=len(pairs), unit="images")
        watch.progress(now)
        try:
            stat = os.stat(root / name)
            of_mask = None if mask is None else os.stat(root / mask)
        except OSError as error:
            left_out.count(f"{root}/{name}", reason(error))
            continue
        if mask is None or of_mask is None:
            left_out.count(f"{root}/{name}", "it has no mask")
            continue
        digest.add(name, stat)
        digest.add(mask, of_mask)
        names.append(os.fsencode(name))
        masks.append(os.fsencode(mask))
    left_out.check()
    label_of = found.label_of
    if label_of is None:
        label_of = np.full(256, _UNKNOWN, np.int16)
        label_of[: len(classes)] = range(len(classes))
        label_of[IGNORED] = IGNORED
    notes = list(found.notes)
    if left_out.reasons:
        first = "".join(f"\n  {each}" for each in left_out.first())
        notes.append(f"{count(len(left_out), 'picture')} of {split} left out:{first}")
    return Masked(
        root=root,
        classes=classes,
        labels=np.zeros(len(names), np.int32),
        names=np.array(names),
        masks=np.array(masks),
        label_of=label_of,
        left_out=left_out.reasons,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
        notes=tuple(notes),
    )


def _look(masked: Masked) -> None:
    """Look at a few masks: what is wrong with the way they were written is wrong with all.

    Raises:
        VggspecError: one has colours, or none has a label but 0 where 255 is frequent.
    """
    occurring: set[int] = set()
    for index in np.unique(np.linspace(0, len(masked) - 1, LOOKED_AT).astype(int)).tolist():
        path = masked.path_of_mask(index)
        try:
            _, values = decode_mask(_content(path))
        except NotLabelsError as error:
            raise _at(catalogue.ColouredMask(why=str(error)), Path(path)) from error
        except BadImageError:
            continue  # it is reported, and counted, when it is used
        occurring.update(values)
    if occurring == {0, IGNORED} and len(masked.classes) > 1:
        raise _at(catalogue.TwoValuedMasks(), masked.root)


def _content(path: str) -> bytes:
    try:
        return read_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise BadImageError(reason(error)) from error


def _no_masks(tried: str) -> VggspecError:
    return VggspecError(report(catalogue.NoMasks(tried=tried)))


def _at(what: Diagnostic, path: Path) -> VggspecError:
    return VggspecError(report(what, path=str(path)))
