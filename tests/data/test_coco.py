"""COCO's JSON: files written by hand, numbers checked by hand."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.refusals import refused
from vggspec.base.catalogue.annotations import BadAnnotations
from vggspec.base.diagnostic import VggspecError
from vggspec.data.annotation import Annotation, BadAnnotationError, annotation
from vggspec.data.coco import CocoFile, read_coco

TABLE: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "b.jpg", "width": 640, "height": 480},
        {"id": 4, "file_name": "a.jpg", "width": 10, "height": 20},
        {"id": 5, "file_name": "empty.jpg", "width": 10, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 18, "bbox": [473.07, 395.93, 38.65, 28.67],
         "iscrowd": 0, "segmentation": [[510.66, 423.01, 511.72, 420.03]], "area": 702.1},
        {"id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 5, 10, 15], "iscrowd": 0},
        {"id": 3, "image_id": 4, "category_id": 18, "bbox": [2, 2, 3, 4]},
        {"id": 4, "image_id": 9, "category_id": 3, "bbox": [0, 0, 640, 480], "iscrowd": 1},
    ],
    "categories": [{"id": 18, "name": "ant"}, {"id": 3, "name": "car", "supercategory": "vehicle"}],
}  # fmt: skip


def read(tmp_path: Path, table: object) -> CocoFile:
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(table))
    return read_coco(path)


def checked(found: CocoFile, name: str) -> Annotation:
    written = found.images[name]
    assert written.size is not None
    return annotation(written.size, written.objects)


def test_boxes_are_left_top_width_height(tmp_path: Path) -> None:
    found = read(tmp_path, TABLE)
    assert found.classes == ("ant", "car")  # whatever their numbers
    assert list(found.images) == ["a.jpg", "b.jpg", "empty.jpg"]
    assert found.bad == {}
    ant = checked(found, "b.jpg")  # the crowd of cars is skipped
    assert (ant.size, ant.names) == ((480, 640), ("ant",))
    assert ant.boxes[0] == pytest.approx([473.07, 395.93, 511.72, 424.60])
    both = checked(found, "a.jpg")
    assert both.names == ("car", "ant")
    assert both.boxes == ((0, 5, 10, 20), (2, 2, 5, 6))
    assert checked(found, "empty.jpg").names == ()


@pytest.mark.parametrize(
    ("place", "value", "image", "why"),
    [
        (("annotations", 1, "bbox"), [0, 5, 10], "a.jpg", "not four numbers"),
        (("annotations", 1, "bbox"), None, "a.jpg", "not four numbers"),
        (("annotations", 1, "bbox"), [0, 5, True, 2], "a.jpg", "not four numbers"),
        (("annotations", 1, "bbox"), [0, 5, float("nan"), 2], "a.jpg", "not four numbers"),
        (("annotations", 1, "bbox"), [0, 5, 10**400, 2], "a.jpg", "not four numbers"),
        (("annotations", 1, "category_id"), 4, "a.jpg", "no category 4"),
        (("annotations", 1, "category_id"), [3], "a.jpg", "no category"),
        (("annotations", 1, "image_id"), 77, "annotation 2", "no image 77"),
        (("images", 1, "width"), "10", "a.jpg", "`width` is not a whole number"),
        (("images", 1, "file_name"), "../a.jpg", "../a.jpg", "no file below"),
        (("images", 1, "file_name"), "/etc/a.jpg", "/etc/a.jpg", "no file below"),
        (("images", 1, "file_name"), "..\\a.jpg", "..\\a.jpg", "no file below"),
        (("images", 1, "file_name"), "b.jpg", "b.jpg", "two images have this name"),
        (("images", 1, "file_name"), "a\ud800.jpg", "a\ud800.jpg", "no file can be called so"),
    ],
)
def test_one_bad_annotation_spoils_its_image_alone(
    tmp_path: Path, place: tuple[Any, ...], value: object, image: str, why: str
) -> None:
    table = deepcopy(TABLE)
    table[place[0]][place[1]][place[2]] = value
    found = read(tmp_path, table)
    assert list(found.bad) == [image]
    assert why in found.bad[image]
    assert image not in found.images
    assert "empty.jpg" in found.images


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("annotations", 1, "bbox"), [0, 5, 0, 15], "has an empty box"),
        (("annotations", 1, "bbox"), [9, 5, -3, 15], "has an empty box"),
        (("annotations", 1, "bbox"), [10, 5, 4, 5], "lies outside"),
        (("images", 1, "width"), 0, "0 × 20 pixels"),
    ],
)
def test_what_cannot_be_true_is_said(
    tmp_path: Path, place: tuple[Any, ...], value: object, why: str
) -> None:
    table = deepcopy(TABLE)
    table[place[0]][place[1]][place[2]] = value
    with pytest.raises(BadAnnotationError, match=why):
        checked(read(tmp_path, table), "a.jpg")


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": None, "height": None}])
def test_a_size_may_not_be_told(tmp_path: Path, size: dict[str, object]) -> None:
    table = deepcopy(TABLE)
    table["images"][1] = {"id": 4, "file_name": "a.jpg", **size}
    found = read(tmp_path, table).images["a.jpg"]
    assert (found.size, len(found.objects)) == (None, 2)


def test_a_category_that_only_names_the_kind_of_others_is_no_class(tmp_path: Path) -> None:
    """Roboflow's export begins with one, called as the data set is."""
    table = deepcopy(TABLE)
    table["categories"] = [
        {"id": 0, "name": "things", "supercategory": "none"},
        {"id": 18, "name": "ant", "supercategory": "things"},
        {"id": 3, "name": "car", "supercategory": "car"},  # as COCO's person, a kind of its own
        {"id": 5, "name": "emu", "supercategory": "things"},  # of which there is no object
    ]
    assert read(tmp_path, table).classes == ("ant", "car", "emu")
    table["categories"][0]["name"] = table["categories"][1]["supercategory"] = "ant"
    table["categories"][3]["supercategory"] = "ant"
    assert read(tmp_path, table).classes == ("ant", "car", "emu")
    table["annotations"][0]["category_id"] = 0
    with refused("the same name"):
        read(tmp_path, table)


@pytest.mark.parametrize(
    "change",
    [
        {"segmentation": {"counts": [3, 2, 5], "size": [2, 5]}, "iscrowd": 1},
        {"segmentation": {"counts": "aV7", "size": [2, 5]}, "iscrowd": 1, "bbox": []},
    ],
)
def test_crowds_by_runs_of_pixels(tmp_path: Path, change: dict[str, object]) -> None:
    table = deepcopy(TABLE)
    table["annotations"][1].update(change)
    found = read(tmp_path, table)
    assert (checked(found, "a.jpg").names, found.bad) == (("ant",), {})


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ([], "no list of `annotations`"),
        ({**TABLE, "categories": None}, "no list of `categories`"),
        ({**TABLE, "images": {}}, "no list of `images`"),
        ({**TABLE, "annotations": [3]}, "no list of `annotations`"),
        ({**TABLE, "categories": [{"id": 1}]}, "a `name` is not a text"),
        ({**TABLE, "categories": [{"id": "1", "name": "car"}]}, "`id` is not a whole number"),
        ({**TABLE, "categories": [{"id": 3, "name": "a\ud800"}]}, "`name` is half a character"),
        ({**TABLE, "categories": TABLE["categories"] * 2}, "two categories"),
        ({**TABLE, "images": TABLE["images"] * 2}, "two images"),
        ({**TABLE, "images": [{"id": 9, "width": 1, "height": 1}]}, "a `file_name` is not a text"),
    ],
)
def test_another_file_is_said_to_be_none(tmp_path: Path, table: object, why: str) -> None:
    with refused("cannot be read") as caught:
        read(tmp_path, table)
    what = caught.value.reports[0].what
    assert isinstance(what, BadAnnotations)
    assert why in what.why


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": 1} 2'])
def test_damaged_json(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "instances_val.json"
    path.write_bytes(text)
    with pytest.raises(VggspecError) as caught:
        read_coco(path)
    assert isinstance(caught.value.reports[0].what, BadAnnotations)
    assert caught.value.reports[0].path == str(path)


def test_a_file_may_be_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggspec.data.coco.MAX_JSON_BYTES", 100)
    with refused("too long"):
        read(tmp_path, TABLE)
