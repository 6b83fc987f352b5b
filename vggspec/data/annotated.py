"""Images with the objects on them: as VOC or as COCO writes them, or VOC's XML by class folders.

    DIR/train/cat/1.jpg      DIR/annotations/train/cat/1.xml           as in ILSVRC
    DIR/JPEGImages/1.jpg     DIR/Annotations/1.xml                     VOC itself
                             DIR/ImageSets/Main/train.txt
    DIR/train2017/1.jpg      DIR/annotations/instances_train2017.json  COCO

Boxes are those of upright images, as everything else here. Who annotated the pixels of a file whose
EXIF turns it by a quarter has written another size; such an image is left out when it is read.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggspec.catalogue import annotations
from vggspec.data.annotation import Annotation, BadAnnotationError, checked_name
from vggspec.data.boxes import Boxes
from vggspec.data.coco import read_coco
from vggspec.data.decode import BadImageError, Pixels
from vggspec.data.digest import Digest
from vggspec.data.folder import subfolders
from vggspec.data.split import MAX_BAD_SHARE
from vggspec.data.voc import read_voc
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason

#: JPEG is decoded at these fractions of its size (``decode``), rounded up.
FRACTIONS = (1, 2, 4, 8)

FOLDERS = ("annotations", "Annotations")


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
    """Images whose annotations cannot be true, each with the reason."""

    num_clipped: int
    """Images of which a box reached over the edge."""

    num_without: int
    """Images without any annotation or any object, which are not here."""

    fingerprint: str
    """SHA-256 of the names and sizes of the image files and of the objects on them."""

    stamp: str
    """The same with the times of the files."""

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
            with open(self.name(index), "rb", buffering=0) as file:
                return file.read()
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
        """Make sure that these are the pixels that were annotated, or a fraction of them.

        Raises:
            BadImageError: they are others.
        """
        rows, columns = self.size(index)
        if pixels.shape[:2] not in {(-(-rows // f), -(-columns // f)) for f in FRACTIONS}:
            found = f"{pixels.shape[1]} × {pixels.shape[0]}"
            raise BadImageError(f"it has {found} pixels, its annotation says {columns} × {rows}")


class Examples:
    """What a net of boxes learns from: each image once for every class on it. A ``Split``."""

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
    """The annotations of a split before they are held against classes and files."""

    classes: tuple[str, ...] | None
    """In the order of their numbers; None where they are those of the objects, sorted."""

    images: Iterator[tuple[str, Annotation | str]]
    """Image files seen from the root, each with what is on it, or why that is not known."""

    num_without: int = 0


def open_annotated(
    root: Path, split: str = "val", classes: tuple[str, ...] | None = None
) -> Annotated:
    """Read the annotations of a split, which belong to ``classes`` where these are given.

    A folder may have more than one layout: COCO's file goes before VOC's folders, and these before
    class folders. In all of them classes are numbered by their sorted names.

    Raises:
        VggspecError: there are none, a file of many annotations is damaged, or too many annotations
            cannot be true.
    """
    if not root.is_dir():
        raise _no_annotations(f"`{root}` is not a folder")
    try:
        return _collected(root, _find(root, split), classes)
    except OSError as error:
        raise _no_annotations(f"`{root}` cannot be read: {reason(error)}") from error


def _find(root: Path, split: str) -> _Found:
    files = _coco_files(root, split)
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise _no_annotations(f"`{root}` has more than one file for {split}: {names}")
    if files:
        return _coco(files[0])
    if lists := _voc_lists(root, split):
        return _voc(root, lists[0])
    if folders := _xml_folders(root, split):
        return _by_class_folders(root, split, folders[0])
    wanted = f"`instances_{split}*.json`, no `ImageSets/Main/{split}.txt`, no `annotations/{split}`"
    raise _no_annotations(f"`{root}` has no {wanted}")


def _coco_files(root: Path, split: str) -> list[Path]:
    found = (root.joinpath(name).glob(f"instances_{split}*.json") for name in FOLDERS)
    return sorted({path.resolve(): path for path in chain(*found)}.values())


def _voc_lists(root: Path, split: str) -> list[Path]:
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    return [listed] if listed.is_file() else []


def _xml_folders(root: Path, split: str) -> list[Path]:
    return [root / name / split for name in FOLDERS if (root / name / split).is_dir()]


def _coco(path: Path) -> _Found:
    file = read_coco(path)
    images = path.stem.removeprefix("instances_")
    good = ((f"{images}/{name}", found) for name, found in file.images.items())
    bad = ((f"{images}/{name}", why) for name, why in file.bad.items())
    return _Found(file.classes, chain(good, bad))


def _voc(root: Path, listed: Path) -> _Found:
    try:
        names = [line.strip() for line in listed.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        what = annotations.BadAnnotations(why="it is not UTF-8 text")
        raise VggspecError(report(what, path=str(listed))) from error
    files = _by_stem(root / "JPEGImages")
    folder = next((root / name for name in reversed(FOLDERS) if (root / name).is_dir()), root)

    def images() -> Iterator[tuple[str, Annotation | str]]:
        for name in sorted({name for name in names if name}):
            image = f"JPEGImages/{files.get(name, f'{name}.jpg')}"
            try:
                xml = folder / f"{checked_name(name)}.xml"
            except BadAnnotationError as error:
                yield image, str(error)
            else:
                yield image, _annotation(xml)

    return _Found(None, images())


def _by_class_folders(root: Path, split: str, folder: Path) -> _Found:
    classes = subfolders(root / "train" if (root / "train").is_dir() else root / split)
    files = {name: _by_stem(root / split / name) for name in subfolders(folder)}
    xmls = {
        name: sorted(path for path in (folder / name).glob("*.xml") if path.name[0] != ".")
        for name in files
    }
    num_images = sum(len(_by_stem(root / split / name)) for name in subfolders(root / split))

    def images() -> Iterator[tuple[str, Annotation | str]]:
        for name, paths in xmls.items():
            for path in paths:
                image = files[name].get(path.stem, f"{path.stem}.jpg")
                yield f"{split}/{name}/{image}", _annotation(path)

    num_annotated = sum(path.stem in files[name] for name in xmls for path in xmls[name])
    return _Found(classes, images(), num_images - num_annotated)


def _annotation(xml: Path) -> Annotation | str:
    """What is on an image, or why that is not known."""
    try:
        return read_voc(xml)
    except BadAnnotationError as error:
        return f"{xml.name}: {error}"


def _by_stem(folder: Path) -> dict[str, str]:
    """The files of a folder by their names without the ending; hidden ones are none."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
    return {os.path.splitext(name)[0]: name for name in sorted(names, reverse=True)}


def _collected(root: Path, found: _Found, classes: tuple[str, ...] | None) -> Annotated:
    """What can be used, in arrays."""
    digest = Digest()
    images: list[tuple[str, Annotation]] = []
    left_out: dict[str, str] = {}
    num_without, total = found.num_without, 0
    known = classes or found.classes
    names = None if known is None else frozenset(known)
    for name, what in found.images:
        total += 1
        try:
            if isinstance(what, str):
                raise BadAnnotationError(what)
            if not what.names:
                num_without += 1
                continue
            unknown = [one for one in what.names if names is not None and one not in names]
            if unknown:
                raise BadAnnotationError(f"the data has no class `{unknown[0]}`")
            stat = (root / name).stat()
        except BadAnnotationError as error:
            left_out[str(root / name)] = str(error)
            continue
        except OSError as error:
            left_out[str(root / name)] = reason(error)
            continue
        digest.add(name, stat, repr((what.size, what.names)).encode() + what.boxes.tobytes())
        images.append((name, what))
    if len(left_out) > MAX_BAD_SHARE * total:
        first = tuple(f"{name}: {why}" for name, why in list(left_out.items())[:5])
        bad = annotations.TooManyBadAnnotations(bad=len(left_out), total=total, first=first)
        raise VggspecError(report(bad, path=str(root)))
    if not images:
        raise _no_annotations(f"`{root}` has no images with objects")
    if known is None:
        known = tuple(sorted({name for _, what in images for name in what.names}))
    numbers = {name: number for number, name in enumerate(known)}
    return Annotated(
        root=root,
        classes=known,
        labels=np.array([numbers[n] for _, what in images for n in what.names], np.int32),
        boxes=np.concatenate([what.boxes for _, what in images]),
        firsts=np.cumsum([0, *(len(what.names) for _, what in images)]),
        sizes=np.array([what.size for _, what in images], np.int32),
        names=np.array([os.fsencode(name) for name, _ in images]),
        left_out=left_out,
        num_clipped=sum(what.is_clipped for _, what in images),
        num_without=num_without,
        fingerprint=digest.fingerprint(),
        stamp=digest.stamp(),
    )


def _no_annotations(tried: str) -> VggspecError:
    return VggspecError(report(annotations.NoAnnotations(tried=tried)))
