"""Pictures with one textured shape each, on pieces of two photographs, in folders to train on.

Where the shape is stands beside them twice, as Pascal VOC and as COCO write it.

A class is a shape and a texture, so neither colour nor either one alone tells it. Size, place,
turn, colours, blur and noise are left to chance. The photographs are the two that come with
scikit-learn; validation pictures are cut from parts of them that training pictures never show.

    python -m benchmarks.shapes DIR
    python -m benchmarks.shapes DIR --size 0.25 0.7 --anywhere     to find, not only to name
    python -m benchmarks.shapes DIR --masks                        to label each pixel

With ``--masks`` the label of a pixel is the texture of the shape that covers half of it or more, or
that of the ground.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: Inside or not, by place: ``x`` and ``y`` are -1 and 1 where the shape's extent ends, ``y`` runs
#: downwards. The areas are not far apart, and no turn takes more room than 2.
SHAPES: dict[str, Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.31) & (np.maximum(abs(x), abs(y)) < 0.95),
    "ring": lambda x, y: abs(np.hypot(x, y) - 0.65) < 0.3,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.7,
    "triangle": lambda x, y: np.maximum(2 * y, np.sqrt(3) * abs(x) - y) < 1.1,
}

#: The first colour or the second; the unit of ``x`` and ``y`` is the period.
TEXTURES: dict[str, Callable[[Floats, Floats], NDArray[np.bool_]]] = {
    "checked": lambda x, y: (np.floor(2 * x) + np.floor(2 * y)) % 2 < 1,
    "dotted": lambda x, y: np.hypot(x % 1 - 0.5, y % 1 - 0.5) < 0.36,
    "striped": lambda _, y: y % 1 < 0.5,
}

CLASSES = tuple(f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES)

#: What a pixel may be, in the order of labels.
LABELS = ("ground", *TEXTURES)

SIDE_PX = (72, 128)  # of a picture, the smaller side
ASPECT = 4 / 3  # of a picture, at most, upright or lying
SHAPE_SIZE = (0.4, 1.0)  # its extent, in parts of the picture's smallest side
PERIOD = (0.3, 0.42)  # of a texture, in parts of the shape's extent
LEAST_CONTRAST = 100  # between the two colours, in luma from 0 to 255
BLUR_PX = 1.0  # the standard deviation, at most
TILT = 0.4  # radians, at most, to either side
NOISE = 8.0  # the standard deviation, at most, of 0 to 255
TRAIN_HEIGHT = 0.6  # of each photograph, from the top; the rest is for validation
HALF = 0.5  # of a pixel, from which on it is the shape's
FINENESS = 3  # samples a pixel, down and across, for smooth edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Where a shape is, in pixels: its first column and row, and those after its last."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture and what is on it."""

    pixels: Pixels
    """``(H, W, 3)``, RGB."""

    label: str
    box: Box
    mask: Pixels
    """``(H, W)``: the label of each pixel, a number of ``LABELS``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where on a picture its shape may be."""

    size: tuple[float, float] = SHAPE_SIZE
    """The shape's extent, in parts of the picture's smallest side."""

    anywhere: bool = False
    """All places are as likely; else those near the middle are likelier."""


def picture(
    label: str, split: str, random: np.random.Generator, layout: Layout | None = None
) -> Picture:
    """Draw a picture of a class, for ``train`` or ``val``."""
    layout = layout or Layout()
    short = random.integers(SIDE_PX[0], SIDE_PX[1] + 1)
    sides = int(short), int(short * random.uniform(1, ASPECT))
    height, width = sides if random.random() < 0.5 else sides[::-1]
    pixels = _background(split, height, width, random)
    extent = random.uniform(*layout.size) * min(height, width)
    alpha, colours = _shape(label, extent, random)
    # The mean of two numbers: what a picture is of rarely stands at its edge.
    draws = 1 if layout.anywhere else 2
    top, left = (
        int(random.uniform(0, room - side + 1, size=draws).mean())
        for room, side in zip((height, width), alpha.shape, strict=True)
    )
    box = Box(left=left, top=top, right=left + alpha.shape[1], bottom=top + alpha.shape[0])
    place = pixels[box.top : box.bottom, box.left : box.right]
    place += alpha[..., np.newaxis] * (colours - place)
    mask = np.zeros((height, width), np.uint8)
    texture = LABELS.index(label.split("-")[1])
    mask[box.top : box.bottom, box.left : box.right] = texture * (alpha >= HALF)
    return Picture(pixels=_worn(pixels, random), label=label, box=box, mask=mask)


def write_folder(
    root: Path, *, train: int, val: int, seed: int = 0, layout: Layout | None = None
) -> dict[str, Box]:
    """Write ``train/<class>/*.jpg`` and ``val/<class>/*.jpg``, so many a class, and annotations.

    Returns where the shape is on each, by the picture's path below ``root``. A picture depends on
    the seed, its split, class and number alone: more of them leave the first ones as they are.
    """
    boxes = {}
    for split, number in (("train", train), ("val", val)):
        drawn: dict[str, Picture] = {}
        for name, one in _pictures(split, number, seed, layout):
            path = root / split / f"{name}.jpg"
            xml = root / "annotations" / split / f"{name}.xml"
            for file in (path, xml):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one.pixels).save(path, quality=90)
            ET.ElementTree(_as_voc(one, path.name)).write(xml, "utf-8")
            drawn[f"{name}.jpg"] = one
            boxes[f"{split}/{name}.jpg"] = one.box
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(_as_coco(drawn)))
    return boxes


def write_masks(
    root: Path, *, train: int, val: int, seed: int = 0, layout: Layout | None = None
) -> int:
    """Write ``images/<split>/<class>/*.jpg`` and ``masks/<split>/<class>/*.png``: the pictures that
    ``write_folder`` writes, with a mask each; and how many there are.
    """
    written = 0
    for split, number in (("train", train), ("val", val)):
        for name, one in _pictures(split, number, seed, layout):
            path, mask = root / "images" / split / name, root / "masks" / split / name
            for file in (path, mask):
                file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(one.pixels).save(path.with_suffix(".jpg"), quality=90)
            Image.fromarray(one.mask).save(mask.with_suffix(".png"))
            written += 1
    (root / "classes.txt").write_text("\n".join(LABELS) + "\n")
    return written


def _pictures(
    split: str, number: int, seed: int, layout: Layout | None
) -> Iterator[tuple[str, Picture]]:
    """So many pictures a class, each with its path below the split, without an ending."""
    for kind, label in enumerate(CLASSES):
        for i in range(number):
            random = np.random.default_rng([seed, split == "val", kind, i])
            yield f"{label}/{i:04}", picture(label, split, random, layout)


def _as_voc(drawn: Picture, name: str) -> ET.Element:
    """A picture's annotation, whose pixels are counted from 1, the last one included."""
    height, width, depth = drawn.pixels.shape
    box = drawn.box
    root = ET.Element("annotation")
    ET.SubElement(root, "folder").text = drawn.label
    ET.SubElement(root, "filename").text = name
    size = ET.SubElement(root, "size")
    for key, number in (("width", width), ("height", height), ("depth", depth)):
        ET.SubElement(size, key).text = str(number)
    shape = ET.SubElement(root, "object")
    ET.SubElement(shape, "name").text = drawn.label
    sides = {"xmin": box.left + 1, "ymin": box.top + 1, "xmax": box.right, "ymax": box.bottom}
    bounds = ET.SubElement(shape, "bndbox")
    for key, number in sides.items():
        ET.SubElement(bounds, key).text = str(number)
    ET.indent(root)
    return root


def _as_coco(drawn: dict[str, Picture]) -> dict[str, list[dict[str, object]]]:
    """The annotations of a split, whose boxes are left, top, width, height."""
    categories = {label: number for number, label in enumerate(CLASSES, start=1)}
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, (name, one) in enumerate(drawn.items(), start=1):
        height, width, _ = one.pixels.shape
        box = one.box
        extent = box.right - box.left, box.bottom - box.top
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": categories[one.label],
                "bbox": [box.left, box.top, *extent],
                "area": extent[0] * extent[1],
                "iscrowd": 0,
            }
        )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }


def _background(split: str, height: int, width: int, random: np.random.Generator) -> Floats:
    """A piece of a photograph, between half and all of its own size, perhaps mirrored."""
    photographs = _photographs()
    photograph = photographs[random.integers(len(photographs))]
    border = round(TRAIN_HEIGHT * photograph.shape[0])
    part = photograph[:border] if split == "train" else photograph[border:]
    zoom = random.uniform(1, min(2, part.shape[0] / height, part.shape[1] / width))
    rows, columns = int(height * zoom), int(width * zoom)
    top = random.integers(part.shape[0] - rows + 1)
    left = random.integers(part.shape[1] - columns + 1)
    piece = Image.fromarray(part[top : top + rows, left : left + columns])
    resized = np.asarray(piece.resize((width, height), Image.Resampling.BILINEAR), np.float64)
    return resized[:, ::-1].copy() if random.random() < 0.5 else resized.copy()


@cache
def _photographs() -> list[Pixels]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def _shape(label: str, extent: float, random: np.random.Generator) -> tuple[Floats, Floats]:
    """How much of each pixel the shape covers ``(h, w)``, and its colours ``(h, w, 3)``.

    The rows and columns are those that it covers by half somewhere: its box.
    """
    shape, texture = label.split("-")
    angle = random.uniform(-TILT, TILT)
    period = random.uniform(*PERIOD) * extent
    shift = random.uniform(size=2)
    across = (np.arange(round(extent) * FINENESS) + 0.5) / FINENESS - round(extent) / 2
    right, down = np.meshgrid(across, across)
    x = np.cos(angle) * right - np.sin(angle) * down
    y = np.sin(angle) * right + np.cos(angle) * down
    cover = _averaged(SHAPES[shape](2 * x / extent, 2 * y / extent))
    share = _averaged(TEXTURES[texture](x / period + shift[0], y / period + shift[1]))
    one, other = _two_colours(random)
    colours = other + share[..., np.newaxis] * (one - other)
    rows, columns = (np.flatnonzero((cover >= HALF).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return cover[box], colours[box]


def _averaged(fine: NDArray[np.bool_]) -> Floats:
    """The share of a pixel's samples that are true."""
    height, width = (side // FINENESS for side in fine.shape)
    shares: Floats = fine.reshape(height, FINENESS, width, FINENESS).mean(axis=(1, 3))
    return shares


def _two_colours(random: np.random.Generator) -> tuple[Floats, Floats]:
    """Two colours ``(3,)`` that are not about equally bright."""
    while True:
        one, other = random.uniform(0, 255, size=(2, 3))
        if abs((one - other) @ (0.299, 0.587, 0.114)) >= LEAST_CONTRAST:
            return one, other


def _worn(pixels: Floats, random: np.random.Generator) -> Pixels:
    """The picture as a poor camera sees it: blurred, then noisy."""
    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, BLUR_PX)))
    noise = random.normal(0, random.uniform(0, NOISE), size=pixels.shape)
    return (np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pictures to train on.")
    parser.add_argument("root", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=200, help="pictures a class (200)")
    parser.add_argument("--val", type=int, default=50, help="pictures a class (50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size",
        type=float,
        nargs=2,
        metavar=("LEAST", "MOST"),
        default=SHAPE_SIZE,
        help="a shape's extent, in parts of the picture's smallest side (0.4 1.0)",
    )
    parser.add_argument(
        "--anywhere", action="store_true", help="all places alike, not rather near the middle"
    )
    parser.add_argument("--masks", action="store_true", help="a mask for each picture")
    given = parser.parse_args()
    least, most = given.size
    if not 0 < least <= most <= 1:
        parser.error("--size wants two numbers, 0 < LEAST <= MOST <= 1")
    layout = Layout(size=(least, most), anywhere=given.anywhere)
    how = {"train": given.train, "val": given.val, "seed": given.seed, "layout": layout}
    if given.masks:
        print(f"{write_masks(given.root, **how)} pictures with masks in {given.root}")
        return
    written = write_folder(given.root, **how)
    print(f"{len(written)} pictures of {len(CLASSES)} classes in {given.root}")


if __name__ == "__main__":
    main()
