"""Data sets with boxes in their layouts: what is read, left out and reported."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggspec.base.catalogue import annotations
from vggspec.base.diagnostic import VggspecError
from vggspec.base.watcher import Progress, Watcher
from vggspec.data.annotated import Annotated, Examples, open_annotated
from vggspec.data.decode import BadImageError, decode

#: Image files by class folder, rows and columns, and the objects: class, left, top, right, bottom.
IMAGES: dict[str, tuple[tuple[int, int], list[tuple[str, int, int, int, int]]]] = {
    "cat/1": ((20, 30), [("cat", 0, 2, 10, 12)]),
    "cat/2": ((24, 20), [("cat", 1, 1, 5, 5), ("dog", 4, 6, 20, 24), ("cat", 7, 1, 12, 5)]),
    "dog/1": ((21, 22), [("dog", 3, 3, 22, 20)]),
}
OBJECTS = [
    ([0], [[0, 2, 10, 12]]),
    ([0, 1, 0], [[1, 1, 5, 5], [4, 6, 20, 24], [7, 1, 12, 5]]),
    ([1], [[3, 3, 22, 20]]),
]


def picture(path: Path, size: tuple[int, int], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path, **options)


def xml(path: Path, size: tuple[int, int], objects: list[tuple[str, int, int, int, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"]
    for name, left, top, right, bottom in objects:
        sides = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}
        bounds = "".join(f"<{key}>{number}</{key}>" for key, number in sides.items())
        parts.append(f"<object><name>{name}</name><bndbox>{bounds}</bndbox></object>")
    path.write_text(f"<annotation>{''.join(parts)}</annotation>")


def class_folders(root: Path, split: str = "val", annotated: str = "annotations") -> Path:
    for name, (size, objects) in IMAGES.items():
        picture(root / split / f"{name}.jpg", size)
        xml(root / annotated / split / f"{name}.xml", size, objects)
    return root


def voc(root: Path) -> Path:
    for name, (size, objects) in IMAGES.items():
        flat = name.replace("/", "_")
        picture(root / "JPEGImages" / f"{flat}.jpg", size)
        xml(root / "Annotations" / f"{flat}.xml", size, objects)
    listed = root / "ImageSets" / "Main" / "val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("cat_1\ncat_2\n\ndog_1\n")
    return root


def coco(root: Path) -> Path:
    categories = {"cat": 18, "dog": 17}
    table: dict[str, list[Any]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }
    for number, (name, (size, objects)) in enumerate(IMAGES.items()):
        picture(root / "val2017" / f"{name}.jpg", size)
        image = {"id": number, "file_name": f"{name}.jpg", "width": size[1], "height": size[0]}
        table["images"].append(image)
        for label, left, top, right, bottom in objects:
            bbox = [left, top, right - left, bottom - top]
            one = {"image_id": number, "category_id": categories[label], "bbox": bbox}
            table["annotations"].append(one)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(table))
    return root


def refused(root: Path, split: str = "val", classes: tuple[str, ...] | None = None) -> Any:
    with pytest.raises(VggspecError) as caught:
        open_annotated(root, split, classes)
    return caught.value.reports[0].what


def objects(found: Annotated) -> list[tuple[list[int], list[list[float]]]]:
    each = (found.objects(index) for index in range(len(found)))
    return [(labels.tolist(), boxes.tolist()) for labels, boxes in each]


@pytest.mark.parametrize("write", [class_folders, voc, coco])
def test_the_same_objects_in_every_layout(write: Any, tmp_path: Path) -> None:
    found = open_annotated(write(tmp_path), "val")
    assert found.classes == ("cat", "dog")
    assert objects(found) == OBJECTS
    assert [found.size(index) for index in range(3)] == [size for size, _ in IMAGES.values()]
    assert (found.left_out, found.num_clipped, found.num_without) == ({}, 0, 0)
    for index in range(3):
        assert found.read(index) == Path(found.name(index)).read_bytes()


def flat_xml(root: Path) -> Path:
    """As ILSVRC's ``val``, whose images are put in class folders for training."""
    class_folders(root)
    for path in sorted((root / "annotations" / "val").glob("*/*.xml")):
        name = f"{path.parent.name}_{path.stem}"
        image = root / "val" / path.parent.name / f"{path.stem}.jpg"
        image.rename(image.with_stem(name))
        path.rename(root / "annotations" / "val" / f"{name}.xml")
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return root


def flat(root: Path) -> Path:
    """ILSVRC's ``val`` as it comes."""
    flat_xml(root)
    for path in (root / "val").glob("*/*.jpg"):
        path.rename(root / "val" / path.name)
        (root / "train" / path.parent.name).mkdir(parents=True, exist_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return root


def roboflow_voc(root: Path) -> Path:
    flat(root)
    shutil.rmtree(root / "train")
    for path in (root / "annotations" / "val").iterdir():
        path.rename(root / "val" / path.name)
    shutil.rmtree(root / "annotations")
    return root


def roboflow_coco(root: Path) -> Path:
    coco(root)
    (root / "val2017").rename(root / "val")
    file = root / "annotations" / "instances_val2017.json"
    file.rename(root / "val" / "_annotations.coco.json")
    return root


def cvat_coco(root: Path) -> Path:
    """The images of all splits in one folder."""
    coco(root)
    (root / "val2017").rename(root / "images")
    return root


def cvat_coco_of_splits(root: Path) -> Path:
    coco(root)
    (root / "images").mkdir()
    (root / "val2017").rename(root / "images" / "val2017")
    return root


def cvat_voc(root: Path) -> Path:
    """Images of a task in folders stay in them."""
    for name, (size, objects) in IMAGES.items():
        picture(root / "JPEGImages" / f"{name}.png", size)
        xml(root / "Annotations" / f"{name}.xml", size, objects)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(IMAGES))
    return root


@pytest.mark.parametrize(
    "write",
    [flat_xml, flat, roboflow_voc, roboflow_coco, cvat_coco, cvat_coco_of_splits, cvat_voc],
)
def test_the_same_objects_as_other_tools_lay_them_out(write: Any, tmp_path: Path) -> None:
    found = open_annotated(write(tmp_path), "val")
    assert found.classes == ("cat", "dog")
    assert objects(found) == OBJECTS
    assert (found.left_out, found.num_without) == ({}, 0)
    for index in range(3):
        assert found.read(index) == Path(found.name(index)).read_bytes()


def test_xml_in_one_folder_that_fits_several_images_fits_none(tmp_path: Path) -> None:
    root = flat_xml(tmp_path)
    (root / "val" / "cow").mkdir()
    shutil.copy(root / "val" / "cat" / "cat_1.jpg", root / "val" / "cow")
    what = refused(root)
    assert isinstance(what, annotations.TooManyBadAnnotations)
    assert what.first[0].endswith("cat_1.jpg: several images are called so")


def test_an_image_with_two_annotations_is_left_out(tmp_path: Path) -> None:
    root = many(tmp_path)
    twice = root / "annotations" / "val" / "cat" / "007.xml"
    shutil.copy(twice, root / "annotations" / "val")
    (root / "annotations" / "val" / "cat" / "009.xml").unlink()
    found = open_annotated(root)
    assert len(found) == 298
    assert found.left_out == {str(root / "val/cat/007.png"): "it has two annotations"}
    assert found.num_without == 1


def test_a_split_that_roboflow_calls_otherwise(tmp_path: Path) -> None:
    roboflow_coco(tmp_path)
    (tmp_path / "val").rename(tmp_path / "valid")
    assert "but `valid`, which must be called `val`" in refused(tmp_path).tried


@pytest.mark.parametrize("write", [voc, coco])
def test_where_no_annotation_tells_the_size_the_image_does(write: Any, tmp_path: Path) -> None:
    """Upright, as the boxes are."""
    root = write(tmp_path)
    (image,) = root.glob("*/cat_1.jpg") if write is voc else root.glob("*/cat/1.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(image, (30, 20), exif=turned)
    rows_first = IMAGES["cat/1"][0]
    if write is voc:
        xml(root / "Annotations" / "cat_1.xml", (0, 0), IMAGES["cat/1"][1])
    else:
        file = root / "annotations" / "instances_val2017.json"
        table = json.loads(file.read_text())
        del table["images"][0]["width"], table["images"][0]["height"]
        file.write_text(json.dumps(table))
    found = open_annotated(root)
    assert objects(found) == OBJECTS
    assert found.size(0) == rows_first
    examples = Examples(found)
    assert len(examples.boxes_on(0, decode(examples.read(0), "RGB"))) == 1
    image.write_bytes(b"no image")
    what = refused(root)
    assert isinstance(what, annotations.TooManyBadAnnotations)
    assert what.first[0].endswith("1.jpg: it is not an image")


@pytest.mark.parametrize("write", [class_folders, voc, coco])
def test_a_watcher_hears_how_far_it_is(write: Any, tmp_path: Path) -> None:
    heard: list[Progress] = []

    class Heard(Watcher):
        def progress(self, now: Progress) -> None:
            heard.append(now)

    open_annotated(write(tmp_path), "val", watch=Heard())
    assert heard == [
        Progress(doing="annotations of val", done=done, total=3, unit="images")
        for done in (1, 2, 3)
    ]


def test_upper_case_folders_as_in_ilsvrc(tmp_path: Path) -> None:
    found = open_annotated(class_folders(tmp_path, annotated="Annotations"))
    assert objects(found) == OBJECTS


def test_classes_keep_the_numbers_of_the_net(tmp_path: Path) -> None:
    found = open_annotated(voc(tmp_path), "val", ("dog", "emu", "cat"))
    assert found.classes == ("dog", "emu", "cat")
    assert [labels for labels, _ in objects(found)] == [[2], [2, 0, 2], [0]]


def test_classes_are_those_of_train(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "train" / "ant").mkdir(parents=True)
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir()
    found = open_annotated(tmp_path)
    assert found.classes == ("ant", "cat", "dog")
    assert found.labels.tolist() == [1, 1, 2, 1, 2]


def test_an_example_for_each_class_on_an_image(tmp_path: Path) -> None:
    examples = Examples(open_annotated(class_folders(tmp_path)))
    assert examples.labels.tolist() == [0, 0, 1, 1]
    assert [examples.image(index) for index in range(len(examples))] == [0, 1, 1, 2]
    assert examples.boxes(1).tolist() == [[1, 1, 5, 5], [7, 1, 12, 5]]
    assert examples.boxes(2).tolist() == [[4, 6, 20, 24]]
    assert examples.name(2) == str(tmp_path / "val" / "cat" / "2.jpg")
    assert examples.read(2) == (tmp_path / "val" / "cat" / "2.jpg").read_bytes()


def many(root: Path, number: int = 300) -> Path:
    """As many annotated images as make one bad one few."""
    for i in range(number):
        picture(root / "val" / "cat" / f"{i:03}.png", (8, 9))
        xml(root / "annotations" / "val" / "cat" / f"{i:03}.xml", (8, 9), [("cat", 0, 0, 4, 4)])
    return root


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([("cat", 4, 4, 4, 8)], "has an empty box"),
        ([("cat", 9, 0, 12, 4)], "lies outside"),
        ([("cat", 0, 0, 4, 4), ("emu", 0, 0, 4, 4)], "the data has no class `emu`"),
    ],
)
def test_few_bad_annotations_are_left_out_and_told(
    objects: list[tuple[str, int, int, int, int]], why: str, tmp_path: Path
) -> None:
    root = many(tmp_path)
    xml(root / "annotations" / "val" / "cat" / "007.xml", (8, 9), objects)
    (root / "val" / "cat" / "008.png").unlink()
    (root / "annotations" / "val" / "cat" / "009.xml").write_text("<annotation>")
    found = open_annotated(root)
    assert len(found) == 297
    bad = {Path(name).stem: reason for name, reason in found.left_out.items()}
    assert list(bad) == ["007", "008", "009"]
    assert why in bad["007"]
    assert bad["008"] == "no such file or directory"
    assert "not XML" in bad["009"]
    (root / "annotations" / "val" / "cat" / "010.xml").write_text("")
    what = refused(root)
    assert isinstance(what, annotations.TooManyBadAnnotations)
    assert (what.bad, what.total) == (4, 300)
    assert what.first[1].endswith("008.jpg: no such file or directory")


def test_images_without_annotations_or_objects_are_passed_over(tmp_path: Path) -> None:
    root = many(tmp_path, 3)
    xml(root / "annotations" / "val" / "cat" / "001.xml", (8, 9), [])
    (root / "annotations" / "val" / "cat" / "002.xml").unlink()
    found = open_annotated(root)
    assert (len(found), found.num_without, found.left_out) == (1, 2, {})
    xml(root / "annotations" / "val" / "cat" / "000.xml", (8, 9), [])
    assert "no images with objects" in refused(root).tried


def test_boxes_over_the_edge_are_counted(tmp_path: Path) -> None:
    root = many(tmp_path, 3)
    xml(root / "annotations" / "val" / "cat" / "001.xml", (8, 9), [("cat", 5, 5, 10, 9)])
    found = open_annotated(root)
    assert found.num_clipped == 1
    assert found.objects(1)[1].tolist() == [[5, 5, 9, 8]]


def test_a_listed_image_without_annotation_is_bad(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "Annotations" / "cat_1.xml").unlink()
    what = refused(tmp_path)
    assert isinstance(what, annotations.TooManyBadAnnotations)
    assert what.first[0].endswith("cat_1.jpg: cat_1.xml: no such file or directory")


def test_names_lead_nowhere_else(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("../Annotations/cat_1\n")
    what = refused(tmp_path)
    assert isinstance(what, annotations.TooManyBadAnnotations)
    assert "no file below" in what.first[0]


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_bytes(b"\xff\xfe")
    assert isinstance(refused(tmp_path), annotations.BadAnnotations)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nowhere").tried
    assert "instances_val" in refused(tmp_path).tried
    coco(tmp_path)
    assert "instances_train" in refused(tmp_path, "train").tried
    twin = tmp_path / "annotations" / "instances_val2014.json"
    twin.write_bytes((tmp_path / "annotations" / "instances_val2017.json").read_bytes())
    assert "more than one file for val" in refused(tmp_path).tried


def test_an_image_of_another_size_is_not_the_one_that_was_annotated(tmp_path: Path) -> None:
    """A quarter turn by EXIF too, where the pixels of the file were annotated."""
    root = class_folders(tmp_path)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(root / "val" / "cat" / "1.jpg", (20, 30), exif=turned)
    examples = Examples(open_annotated(root))
    with pytest.raises(BadImageError, match="20 × 30 pixels, its annotation says 30 × 20"):
        examples.boxes_on(0, decode(examples.read(0), "RGB"))
    assert len(examples.boxes_on(1, decode(examples.read(1), "RGB"))) == 2


def test_boxes_shrink_with_an_image_that_is_decoded_at_a_fraction(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "cat" / "1.jpg", (401, 600))
    xml(tmp_path / "annotations" / "val" / "cat" / "1.xml", (401, 600), [("cat", 60, 0, 600, 401)])
    examples = Examples(open_annotated(tmp_path))
    pixels = decode(examples.read(0), "RGB", at_least=16)
    assert pixels.shape == (51, 75, 3)
    np.testing.assert_allclose(examples.boxes_on(0, pixels), [[7.5, 0, 75, 51]])


def test_the_fingerprint_tells_other_boxes(tmp_path: Path) -> None:
    root = class_folders(tmp_path)
    before = open_annotated(root)
    assert open_annotated(root).stamp == before.stamp
    size, _ = IMAGES["cat/1"]
    xml(root / "annotations" / "val" / "cat" / "1.xml", size, [("cat", 0, 2, 10, 13)])
    assert open_annotated(root).fingerprint != before.fingerprint
