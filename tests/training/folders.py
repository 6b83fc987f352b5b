"""Small data sets for tests: classes that differ in colour."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.nets import net
from vggspec.compiler.lower import Lowered

HUES = {"blue": (40, 60, 200), "green": (50, 190, 70), "red": (210, 50, 40)}

TINY = """\
net tiny
input 16x16 RGB(std 64)
conv3-4
maxpool
FC-8
FC-3
soft-max
train:
  scale 18..20
  batch 8
  rate 1e-2
  dropout 0.2
  stop after 3 epochs
  start he
test:
  scale 19
"""

_GRAPH_RECIPE = """\
train:
  scale 18..20
  batch 8
  rate 1e-2
  dropout 0.2
  stop after 3 epochs
  start he
test:
  scale 19
"""

#: Every kind of shortcut: equal shapes, a projection, zero channels, left out, always a projection.
RESIDUAL = f"""\
net residual
input 16x16 RGB(std 64)
conv is conv(no-bias) BN ReLU
conv3-4
[conv3-6/2(once) conv3-6 + shortcut] x2
[conv3-8/2 conv3-8 + shortcut(pad)]
[conv1-16 dwconv3 conv1-10(linear) + shortcut(drop)] x2
[conv3-10 + shortcut(project)]
gap
FC-3
soft-max
{_GRAPH_RECIPE}"""

#: Four branches of an inception module, a dense block, and a layer that is read three times.
JOINED = f"""\
net joined
input 16x16 RGB(std 64)
conv is BN ReLU conv(no-bias)
conv3-4 as stem
maxpool
[conv1-2 & conv1-2 conv3-3 & maxpool3/1(pad 1) conv1-2 & from stem conv3-2/2]
[identity & conv1-4 conv3-2] x2
[identity & from stem avgpool2 conv1-3]
maxpool
FC-8
FC-3
soft-max
{_GRAPH_RECIPE}"""


def tiny(*changes: tuple[str, str]) -> Lowered:
    """The tiny net, with parts of its text changed."""
    text = TINY
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return net(text, "tiny.vgg")


def picture(hue: Sequence[int], size: tuple[int, int], seed: int) -> Image.Image:
    """A noisy picture of one colour, ``size`` rows and columns."""
    random = np.random.default_rng(seed)
    pixels = np.array(hue) + random.normal(0, 40, (*size, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_folder(root: Path, train: int = 10, val: int = 4) -> Path:
    """An image folder with that many images of each colour."""
    for number, (name, hue) in enumerate(HUES.items()):
        for split, images in (("train", train), ("val", val)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                seed = 1000 * number + 100 * (split == "val") + i
                picture(hue, (20 + i % 3, 24), seed).save(folder / f"{i}.png")
    return root


#: The tiny net as one that says where something is.
TO_BOXES = ("FC-3\nsoft-max", "FC-12(linear)\nboxes(per-class)")
TO_SHARED_BOXES = ("FC-3\nsoft-max", "FC-4(linear)\nboxes(shared)")


def write_annotated(root: Path, train: int = 10, val: int = 4) -> Path:
    """That many gray images of each colour, with a rectangle of it, in COCO's layout.

    On every third image there is a second one, of the same colour or of the next.
    """
    names = list(HUES)
    for split, number in (("train", train), ("val", val)):
        images: list[dict[str, object]] = []
        objects: list[dict[str, object]] = []
        (root / split).mkdir(parents=True)
        for i in range(3 * number):
            random = np.random.default_rng([split == "val", i])
            rows, columns = 20 + i % 5, 24 - i % 3
            pixels = np.asarray(picture((90, 90, 90), (rows, columns), i)) // 3
            for label in [i % 3] if i % 3 else [i % 3, (i + i // 3 % 2) % 3]:
                top, left = (int(random.integers(side - 8)) for side in (rows, columns))
                high, wide = (int(number) for number in random.integers(5, 9, 2))
                pixels[top : top + high, left : left + wide] = HUES[names[label]]
                bbox = [left, top, wide, high]
                objects.append({"image_id": i, "category_id": label + 1, "bbox": bbox})
            Image.fromarray(pixels).save(root / split / f"{i:03}.png")
            image = {"id": i, "file_name": f"{i:03}.png", "height": rows, "width": columns}
            images.append(image)
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        table = {"images": images, "annotations": objects, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(table))
    return root


#: A net that labels positions: every second pixel, from the third on, without the edge.
LABELLING = """\
net labelling
input 20x24 RGB(std 64)
conv3-6 BN
maxpool
conv3-8(pad 0) dropout
conv1-3(linear)
soft-max(map)
train:
  scale 20..26
  batch 5
  rate 3e-2
  dropout 0.2
  stop after 3 epochs
  start he
test:
  scale 22
"""


def write_masked(root: Path, train: int = 20, val: int = 9) -> Path:
    """That many noisy gray pictures with rectangles of two colours, and their masks.

    A border of one pixel around each rectangle is ignored.
    """
    for split, number in (("train", train), ("val", val)):
        for place in ("images", "masks"):
            (root / place / split).mkdir(parents=True)
        for i in range(number):
            random = np.random.default_rng([split == "val", i])
            rows, columns = 24 + i % 5, 30 - i % 3
            mask = np.zeros((rows, columns), np.uint8)
            for label in (1, 2):
                top, left = (int(random.integers(side - 10)) for side in (rows, columns))
                mask[top : top + 11, left : left + 11] = 255
                mask[top + 1 : top + 10, left + 1 : left + 10] = label
            hues = np.array([(90, 90, 90), HUES["blue"], HUES["red"]])
            pixels = hues[mask % 255] + random.normal(0, 25, (rows, columns, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(root / "images" / split / f"{i:03}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{i:03}.png")
    (root / "classes.txt").write_text("ground\nblue\nred\n")
    return root
