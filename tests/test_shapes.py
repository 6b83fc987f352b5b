"""The picture set that the project draws: what it says of its pictures is so."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggspec.data.annotated import open_annotated
from vggspec.data.masked import open_masked

pytest.importorskip("sklearn")

from benchmarks import shapes


def a_random(number: int) -> np.random.Generator:
    return np.random.default_rng([7, number])


@pytest.mark.parametrize("label", shapes.CLASSES)
def test_the_box_is_where_the_shape_is(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a plain ground without wear, the box is that of the pixels which are not the ground's."""
    ground = -1e4
    monkeypatch.setattr(shapes, "_background", lambda _, h, w, __: np.full((h, w, 3), ground))
    monkeypatch.setattr(shapes, "_worn", lambda pixels, _: pixels)
    for number in range(8):
        drawn = shapes.picture(label, "train", a_random(number))
        is_shape = (drawn.pixels > ground / 2).any(axis=-1)  # covered by half or more
        rows, columns = np.flatnonzero(is_shape.any(axis=1)), np.flatnonzero(is_shape.any(axis=0))
        box = drawn.box
        assert (box.top, box.bottom) == (rows[0], rows[-1] + 1)
        assert (box.left, box.right) == (columns[0], columns[-1] + 1)
        assert drawn.label == label


def test_the_mask_is_where_the_shape_is(monkeypatch: pytest.MonkeyPatch) -> None:
    ground = -1e4
    monkeypatch.setattr(shapes, "_background", lambda _, h, w, __: np.full((h, w, 3), ground))
    monkeypatch.setattr(shapes, "_worn", lambda pixels, _: pixels)
    for number, label in enumerate(shapes.CLASSES):
        drawn = shapes.picture(label, "train", a_random(number))
        is_shape = (drawn.pixels > ground / 2).any(axis=-1)  # covered by half or more
        assert drawn.mask.shape == is_shape.shape
        np.testing.assert_array_equal(drawn.mask > 0, is_shape)
        assert shapes.LABELS[drawn.mask.max()] == label.split("-")[1]
        assert set(np.unique(drawn.mask)) == {0, drawn.mask.max()}


def test_pictures_with_masks_are_those_without(tmp_path: Path) -> None:
    """And the masks are read by the reader that training has."""
    shapes.write_folder(tmp_path / "plain", train=1, val=1)
    assert shapes.write_masks(tmp_path / "masked", train=1, val=1) == 2 * len(shapes.CLASSES)
    for path in (tmp_path / "plain/train").rglob("*.jpg"):
        other = tmp_path / "masked/images/train" / path.relative_to(tmp_path / "plain/train")
        assert other.read_bytes() == path.read_bytes()
    found = open_masked(tmp_path / "masked", "train")
    assert found.classes == shapes.LABELS
    assert len(found) == len(shapes.CLASSES)
    for index in range(len(found)):
        with Image.open(found.name(index)) as image:
            mask = found.mask(index, (image.height, image.width))
        texture = Path(found.name(index)).parent.name.split("-")[1]
        assert shapes.LABELS[mask.max()] == texture


def test_sizes_vary_and_shapes_fit() -> None:
    parts = []
    for number in range(60):
        drawn = shapes.picture(shapes.CLASSES[number % 12], "val", a_random(number))
        height, width = drawn.pixels.shape[:2]
        box = drawn.box
        assert 0 <= box.left < box.right <= width
        assert 0 <= box.top < box.bottom <= height
        assert shapes.SIDE_PX[0] <= min(height, width) <= shapes.SIDE_PX[1]
        assert max(height, width) <= shapes.ASPECT * min(height, width)
        parts.append(max(box.right - box.left, box.bottom - box.top) / min(height, width))
    assert max(parts) > 2 * min(parts)


def test_validation_never_shows_the_ground_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(400)[:, None, None]
    photograph = np.broadcast_to(rows // 2, (400, 600, 3)).astype(np.uint8)
    monkeypatch.setattr(shapes, "_photographs", lambda: [photograph])
    border = 400 * shapes.TRAIN_HEIGHT / 2
    for number in range(20):
        train, val = (shapes._background(s, 90, 120, a_random(number)) for s in ("train", "val"))
        assert train.max() < border <= val.min()


def test_the_folder_depends_on_the_seed_alone(tmp_path: Path) -> None:
    first = shapes.write_folder(tmp_path / "first", train=1, val=1, seed=3)
    more = shapes.write_folder(tmp_path / "more", train=2, val=1, seed=3)
    other = shapes.write_folder(tmp_path / "other", train=1, val=1, seed=4)
    assert len(first) == 2 * len(shapes.CLASSES)
    for path, box in first.items():
        assert path.split("/")[1] in shapes.CLASSES
        assert more[path] == box
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "more" / path).read_bytes()
        with Image.open(tmp_path / "first" / path) as image:
            assert image.format == "JPEG"
            assert box.right <= image.width
            assert box.bottom <= image.height
    assert any(other[path] != box for path, box in first.items())


def test_annotations_say_where_the_shapes_are(tmp_path: Path) -> None:
    """By COCO's file, and without it by VOC's, each read by the reader that training has."""
    layout = shapes.Layout(size=(0.25, 0.7), anywhere=True)
    boxes = shapes.write_folder(tmp_path, train=1, val=2, layout=layout)
    for split, number in (("train", 12), ("val", 24)):
        by_coco = open_annotated(tmp_path, split)
        (tmp_path / "annotations" / f"instances_{split}.json").unlink()
        by_voc = open_annotated(tmp_path, split)
        for found in (by_coco, by_voc):
            assert found.classes == shapes.CLASSES
            assert (len(found), found.left_out, found.num_clipped) == (number, {}, 0)
            for index in range(number):
                labels, (box,) = found.objects(index)
                path = Path(found.name(index))
                assert shapes.CLASSES[int(labels[0])] == path.parent.name
                drawn = boxes[str(path.relative_to(tmp_path))]
                assert box.tolist() == [drawn.left, drawn.top, drawn.right, drawn.bottom]
                with Image.open(path) as image:
                    assert found.size(index) == (image.height, image.width)


def test_a_layout_says_how_large_shapes_are_and_where() -> None:
    """Anywhere, a box touches the edge far more often than where the middle is likelier."""
    at_edge = []
    for anywhere in (False, True):
        layout = shapes.Layout(size=(0.3, 0.5), anywhere=anywhere)
        near = 0
        for number in range(80):
            drawn = shapes.picture("square-dotted", "train", a_random(number), layout)
            height, width = drawn.pixels.shape[:2]
            box = drawn.box
            sides = box.right - box.left, box.bottom - box.top
            assert 0.15 < max(sides) / min(height, width) < 0.55
            gaps = box.left, box.top, width - box.right, height - box.bottom
            near += min(gaps) <= 4
        at_edge.append(near)
    assert at_edge[1] > 2 * at_edge[0]


def test_pictures_stay_those_that_the_figures_were_measured_on(tmp_path: Path) -> None:
    """What the documentation says of the miniature holds for these pixels."""
    drawn = shapes.picture("ring-striped", "train", np.random.default_rng([0, False, 5, 3]))
    assert drawn.pixels.shape == (134, 111, 3)
    assert drawn.box == shapes.Box(left=8, top=18, right=101, bottom=111)
    assert drawn.pixels.mean() == pytest.approx(199.933, abs=0.05)
