"""Images with the objects on them: as VOC or as COCO writes them, or VOC's XML by class folders.

    DIR/train/cat/1.jpg      DIR/annotations/train/cat/1.xml           as in ILSVRC
    DIR/JPEGImages/1.jpg     DIR/Annotations/1.xml                     VOC itself
                             DIR/ImageSets/Main/train.txt
    DIR/train2017/1.jpg      DIR/annotations/instances_train2017.json  COCO
    DIR/train/1.jpg          DIR/train/1.xml                           as Roboflow writes them
                             DIR/train/_annotations.coco.json

In the first, XML may lie in one folder where images lie in several, as for ILSVRC's ``val``, and
the images of COCO's may be in ``images``, as CVAT writes them.

Boxes are those of upright images, as everything else here. If the pixels of a file were annotated
without the quarter turn of its EXIF, the size differs; such an image is left out when it is read.
"""

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import annotations
from vggspec.base.class_names import same, told_apart
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import read_file
from vggspec.base.render import shown
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.base.wording import reason
from vggspec.data.annotation import (
    BadAnnotationError,
    RawAnnotation,
    Size,
    annotation,
    checked_name,
)
from vggspec.data.box_coding import Boxes
from vggspec.data.coco import read_coco
from vggspec.data.decode import BadImageError, Pixels, upright_size
from vggspec.data.digest import Digest
from vggspec.data.folder import (
    Skipped,
    by_stem,
    files_below,
    images_below,
    stem_of,
    subfolders,
)
from vggspec.data.left_out import LeftOut
from vggspec.data.read import MAX_FILE_BYTES
from vggspec.data.voc import read_voc

#: JPEG is decoded at these fractions of its size (``decode``), rounded up.
FRACTIONS = (1, 2, 4, 8)
MAX_LIST_BYTES = 64 << 20  # of a list of images; a line has a few dozen bytes

FOLDERS = ("annotations", "Annotations")
ROBOFLOW = "_annotations.coco.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """The images of a split that have objects, in the order of their names."""

    root: Path
    classes: tuple[str, ...]
    """In the order of their numbers."""

    labels: NDArray[np.int32]
    """``(M,)``: the class of each object, image by image."""

    boxes: Boxes
    """``(M, 4)``: where it is, in pixels of the upright image."""

    firsts: NDArray[np.int64]
    """``(N + 1,)``: where the objects of an image begin, and those of the last one end."""

    sizes: NDArray[np.int32]
    """``(N, 2)``: rows and columns of each image, as annotated."""

    names: NDArray[np.bytes_]
    """``(N,)``: the files of the images, seen from ``root``."""

    left_out: Mapping[str, str]
    """Images with invalid annotations, each with the reason."""

    num_clipped: int
    """Images with a box that crossed the edge."""

    num_without: int
    """Images without any annotation or any object, which are not included."""

    fingerprint: str
    """SHA-256 of the names and sizes of the image files and of the objects on them."""

    stamp: str
    """The same with the times of the files."""

    notes: tuple[str, ...] = ()
    """What of the folders is not used, in words."""

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The path of an image."""
        return os.path.join(self.root, os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """The content of an image file.

        Raises:
            BadImageError: it cannot be read.
        """
        try:
            return read_file(self.name(index), MAX_FILE_BYTES)
        except OSError as error:
            raise BadImageError(reason(error)) from error

    def size(self, index: int) -> tuple[int, int]:
        """Rows and columns of an image, as annotated."""
        rows, columns = self.sizes[index].tolist()
        return rows, columns

    def objects(self, index: int) -> tuple[NDArray[np.int32], Boxes]:
        """The objects on an image: their classes ``(n,)`` and boxes ``(n, 4)``."""
        those = slice(*self.firsts[index : index + 2].tolist())
        return self.labels[those], self.boxes[those]

    def check_size(self, index: int, pixels: Pixels) -> None:
        """Check that these are the pixels that were annotated, or a fraction of them.

        Raises:
            BadImageError: they are not.
        """
        rows, columns = self.size(index)
        if pixels.shape[:2] not in {(-(-rows // f), -(-columns // f)) for f in FRACTIONS}:
            found = f"{pixels.shape[1]} × {pixels.shape[0]}"
            raise BadImageError(f"it has {found} pixels, its annotation says {columns} × {rows}")


class Examples:
    """The examples for a net of boxes: each image once for every class on it. A ``Split``."""

    def __init__(self, annotated: Annotated) -> None:
        self.annotated = annotated
        on = np.repeat(np.arange(len(annotated)), np.diff(annotated.firsts))
        pairs = np.unique(np.stack([on, annotated.labels]), axis=1)
        self._images = pairs[0]
        self.labels: NDArray[np.int32] = pairs[1].astype(np.int32)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> int:
        """The number of its image."""
        return int(self._images[index])

    def name(self, index: int) -> str:
        """The path of its image."""
        return self.annotated.name(self.image(index))

    def read(self, index: int) -> bytes:
        """The content of its image file.

        Raises:
            BadImageError: it cannot be read.
        """
        return self.annotated.read(self.image(index))

    def boxes(self, index: int) -> Boxes:
        """Where the objects of its class are: ``(n, 4)``, at least one."""
        labels, boxes = self.annotated.objects(self.image(index))
        return np.asarray(boxes[labels == self.labels[index]])

    def boxes_on(self, index: int, pixels: Pixels) -> Boxes:
        """The same in pixels of the image as it was decoded, perhaps at a fraction of its size.

        Raises:
            BadImageError: this is not the image that was annotated.
        """
        self.annotated.check_size(self.image(index), pixels)
        rows, columns = self.annotated.size(self.image(index))
        across, down = pixels.shape[1] / columns, pixels.shape[0] / rows
        return np.asarray(self.boxes(index) * (across, down, across, down))


class _Found(NamedTuple):
    """The annotations of a split before they are checked against classes and files."""

    classes: tuple[str, ...] | None
    """In the order of their numbers; None where they are those of the objects, sorted."""

    images: Iterable[tuple[str, RawAnnotation | str]]
    """Image files relative to the root, each with its annotation, or why that is unknown."""

    total: int
    num_without: int = 0
    notes: tuple[str, ...] = ()


def open_annotated(
    root: Path,
    split: str = "val",
    classes: tuple[str, ...] | None = None,
    watch: Watcher = SILENT,
) -> Annotated:
    """Read the annotations of a split, which belong to ``classes`` where these are given.

    A folder may have more than one layout: COCO's file takes precedence over VOC's list, and the
    list over folders of XML. In all of them classes are numbered by their sorted names.

    Raises:
        VggspecError: the folder has no annotations, a file of many annotations is damaged, or too
            many annotations are invalid.
    """
    if not root.is_dir():
        raise _no_annotations(f"`{root}` is not a folder")
    try:
        found = _find(root, split)
        return _collected(root, found, classes, watch, f"annotations of {split}")
    except OSError as error:
        where = shown(str(error.filename or root))
        raise _no_annotations(f"`{where}` cannot be read: {reason(error)}") from error


def _find(root: Path, split: str) -> _Found:
    files = _coco_files(root, split)
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise _no_annotations(f"`{root}` has more than one file for {split}: {names}")
    if files:
        return _coco(root, files[0])
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    if listed.is_file():
        return _voc(root, listed)
    folder = _xml_folder(root, split)
    if folder is not None:
        return _by_folders(root, folder, split)
    places = f"`instances_{split}*.json`, no `ImageSets/Main/{split}.txt`, no `annotations/{split}`"
    is_valid = split == "val" and (root / "valid").is_dir()
    hint = ", but `valid`, which must be called `val`" if is_valid else ""
    raise _no_annotations(f"`{root}` has no {places}{hint}")


def _coco_files(root: Path, split: str) -> list[Path]:
    found = (root.joinpath(name).glob(f"instances_{split}*.json") for name in FOLDERS)
    files = sorted({path.resolve(): path for path in chain(*found)}.values())
    beside = root / split / ROBOFLOW
    return files or [beside] * beside.is_file()


def _xml_folder(root: Path, split: str) -> Path | None:
    """Where the XML is: in a folder for it, or with the images."""
    for name in FOLDERS:
        if (root / name / split).is_dir():
            return root / name / split
    return root / split if _has_xml(root / split) else None


def _coco(root: Path, path: Path) -> _Found:
    file = read_coco(path)
    name = path.parent.name if path.name == ROBOFLOW else path.stem.removeprefix("instances_")
    places = (name, f"{name}/images", f"images/{name}", "images")
    first = list(islice(file.images, 10))
    folder = next((p for p in places if any((root / p / f).is_file() for f in first)), name)
    images: dict[str, RawAnnotation | str] = {**file.images, **file.bad}
    named = ((f"{folder}/{name}", what) for name, what in images.items())
    return _Found(file.classes, named, len(images))


def _voc(root: Path, listed: Path) -> _Found:
    try:
        text = read_file(listed, MAX_LIST_BYTES).decode()
        lines = [line.strip() for line in text.splitlines()]
    except UnicodeDecodeError as error:
        what = annotations.BadAnnotations(why="it is not UTF-8 text")
        raise VggspecError(report(what, path=str(listed))) from error
    folder = next((root / name for name in reversed(FOLDERS) if (root / name).is_dir()), root)
    names, bad = [], []
    for name in sorted({line for line in lines if line}):
        try:
            names.append(checked_name(name))
        except BadAnnotationError as error:
            bad.append((f"JPEGImages/{name}.jpg", str(error)))
    files = {
        below: by_stem(root / "JPEGImages" / below) for below in {os.path.dirname(n) for n in names}
    }

    def image(name: str) -> str:
        below, stem = os.path.split(name)
        return os.path.join("JPEGImages", below, files[below].get(stem, f"{stem}.jpg"))

    read = (_read_xml(f"{folder}/{name}.xml") for name in names)
    good = zip(map(image, names), read, strict=True)
    return _Found(None, chain(good, bad), len(names) + len(bad))


def _by_folders(root: Path, folder: Path, split: str) -> _Found:
    """Images, and XML about them, each in the folder of the split or in folders of classes."""
    skipped = Skipped()
    images: dict[str, dict[str, str]] = {}
    if (root / split).is_dir():
        for name, _ in images_below(root / split, skipped, beside=".xml"):
            below, file = os.path.split(name)
            images.setdefault(below, {}).setdefault(stem_of(file), file)
    xmls = sorted(map(os.path.split, files_below(folder, ".xml")))
    anywhere: dict[str, list[str]] = {}
    if any(not below for below, _ in xmls):
        for below, files in images.items():
            for stem, name in files.items():
                anywhere.setdefault(stem, []).append(os.path.join(below, name))
    places: list[list[str]] = []
    for below, xml in xmls:
        stem = stem_of(xml)
        if stem in images.get(below, {}):
            places.append([os.path.join(below, images[below][stem])])
        else:
            places.append([] if below else anywhere.get(stem, []))
    annotated = Counter(place[0] for place in places if place)

    def found() -> Iterator[tuple[str, RawAnnotation | str]]:
        read = (_read_xml(os.path.join(folder, *names)) for names in xmls)
        for (below, xml), place, what in zip(xmls, places, read, strict=True):
            name = place[0] if place else os.path.join(below, f"{stem_of(xml)}.jpg")
            if len(place) > 1:
                what = "several images are called so"
            elif annotated[name] > 1:
                what = "it has two annotations"
            yield os.path.join(split, name), what

    num_images, num_annotated = sum(map(len, images.values())), len(annotated)
    classes = subfolders(root / "train" if (root / "train").is_dir() else root / split)
    num_without = num_images - num_annotated
    return _Found(classes or None, found(), len(xmls), num_without, skipped.notes(split))


def _read_xml(path: str) -> RawAnnotation | str:
    """The annotation in a file, or why it cannot be read."""
    try:
        return read_voc(path)
    except BadAnnotationError as error:
        return f"{os.path.basename(path)}: {error}"


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and next(files_below(folder, ".xml"), None) is not None


def _collected(
    root: Path, found: _Found, classes: tuple[str, ...] | None, watch: Watcher, doing: str
) -> Annotated:
    """The valid annotations, in arrays."""
    digest = Digest()
    known = classes or found.classes
    numbers = {same(name): number for number, name in enumerate(known or ())}
    names, sizes, counts = [], [], [0]
    labels, boxes = array("i"), array("d")
    total = found.total
    left_out = LeftOut(total, str(root), what=annotations.TooManyBadAnnotations)
    written: dict[str, str] = {}
    num_without, num_clipped = found.num_without, 0
    for done, (name, what) in enumerate(found.images, start=1):
        watch.progress(Progress(doing=doing, done=done, total=total, unit="images"))
        path = f"{root}/{name}"
        try:
            if isinstance(what, str):
                raise BadAnnotationError(what)
            if not what.objects:
                num_without += 1
                continue
            one = annotation(what.size or _size(path), what.objects)
            of = [same(each) for each in one.names]
            unknown = [name for name, key in zip(one.names, of, strict=True) if key not in numbers]
            if known and unknown:
                (told,) = told_apart(unknown[:1], known, "it")
                raise BadAnnotationError(f"the data has no class {told}")
            stat = os.stat(path)
        except BadAnnotationError as error:
            left_out.count(path, str(error))
            continue
        except OSError as error:
            left_out.count(path, reason(error))
            continue
        flat = array("d", chain(*one.boxes))
        digest.add(name, stat, repr((one.size, one.names)).encode() + flat.tobytes())
        names.append(os.fsencode(name))
        sizes.append(one.size)
        counts.append(len(one.names))
        labels.extend(numbers.setdefault(each, len(numbers)) for each in of)
        written |= {
            key: name for key, name in zip(of, one.names, strict=True) if key not in written
        }
        boxes.extend(flat)
        num_clipped += one.is_clipped
    left_out.check()
    if not names:
        raise _no_annotations(f"`{root}` has no images with objects")
    known = known or tuple(sorted(written.values()))
    order = {same(name): number for number, name in enumerate(known)}
    renumbered = np.array([order[name] for name in numbers], np.int32)
    return Annotated(
        root=root,
        classes=known,
        labels=renumbered[np.array(labels)],
        boxes=np.array(boxes).reshape(-1, 4),
        firsts=np.cumsum(counts),
        sizes=np.array(sizes, np.int32),
        names=np.array(names),
        left_out=left_out.reasons,
        num_clipped=num_clipped,
        num_without=num_without,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
        notes=found.notes,
    )


def _size(path: str) -> Size:
    """The size of an image whose annotation does not state it."""
    try:
        return upright_size(read_file(path, MAX_FILE_BYTES))
    except BadImageError as error:
        raise BadAnnotationError(str(error)) from error


def _no_annotations(tried: str) -> VggspecError:
    return VggspecError(report(annotations.NoAnnotations(tried=tried)))
