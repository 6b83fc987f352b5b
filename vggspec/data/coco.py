"""Annotations as COCO writes them: one JSON file for all images of a split.

A box is left, top, width, height, from the corner of the first pixel. Boxes around crowds, which
stand for many objects, are skipped. So are categories that only name the kind of others, as
Roboflow writes one: there is no object of them.

Source: Lin et al. 2014, and https://cocodataset.org/#format-data, "Object Detection".
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggspec.base.catalogue.annotations import BadAnnotations
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason
from vggspec.data.annotation import BadAnnotationError, Box, RawAnnotation, Size, checked_name

#: Four times those of the 118 287 training images of 2017.
MAX_JSON_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFile:
    """What a file says, and what of it cannot be used."""

    classes: tuple[str, ...]
    """The names of the categories, sorted."""

    images: dict[str, RawAnnotation]
    """By the names of the image files, in their order."""

    bad: dict[str, str]
    """Images, and annotations of none, each with the reason."""


def read_coco(path: Path) -> CocoFile:
    """What a file says of its images.

    Raises:
        VggspecError: it cannot be read, or contains something else.
    """
    try:
        # Outlines take most of such a file, so they go as soon as they are read.
        table = json.loads(read_file(path, MAX_JSON_BYTES), object_hook=_without_outline)
    except OSError as error:
        raise _bad(path, reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"it is not JSON, {error}") from error
    try:
        return _file(table)
    except BadAnnotationError as error:
        raise _bad(path, str(error)) from error


def _file(table: Any) -> CocoFile:
    annotations = _list(table, "annotations")
    classes = _classes(table, annotations)
    images = {_key(one, "id"): one for one in _list(table, "images")}
    if len(images) < len(table["images"]):
        raise BadAnnotationError("two images have the same number")
    objects: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    bad: dict[str, str] = {}
    for one in annotations:
        number = _key(one, "image_id")
        if number not in images:
            bad[f"annotation {one.get('id')}"] = f"there is no image {number}"
        elif not one.get("iscrowd"):
            objects[number].append(one)
    found: dict[str, RawAnnotation] = {}
    for number, image in images.items():
        name = _text(image, "file_name")
        try:
            if checked_name(name) in found or name in bad:
                raise BadAnnotationError("two images have this name")
            on_it = [_object(one, classes) for one in objects[number]]
            found[name] = RawAnnotation(_size(image), on_it)
        except BadAnnotationError as error:
            found.pop(name, None)
            bad[name] = str(error)
    return CocoFile(
        classes=tuple(sorted(classes.values())),
        images={name: found[name] for name in sorted(found)},
        bad=bad,
    )


def _classes(table: Any, annotations: list[dict[str, Any]]) -> dict[int, str]:
    """The names of the categories by their numbers, but for those that only name others' kind."""
    categories = {_key(one, "id"): one for one in _list(table, "categories")}
    used = {number for one in annotations if type(number := one.get("category_id")) is int}
    kinds: dict[str, set[int]] = {}
    for number, one in categories.items():
        kinds.setdefault(str(one.get("supercategory")), set()).add(number)
    names = {number: _text(one, "name") for number, one in categories.items()}
    for name in names.values():
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise BadAnnotationError("a category's `name` is half a character")
    classes = {
        number: name
        for number, name in names.items()
        if number in used or not kinds.get(name, set()) - {number}
    }
    if len(categories) < len(table["categories"]) or len(set(classes.values())) < len(classes):
        raise BadAnnotationError("two categories have the same name or number")
    return classes


def _size(image: dict[str, Any]) -> Size | None:
    if not image.get("height") and not image.get("width"):
        return None
    return _key(image, "height"), _key(image, "width")


def _object(one: dict[str, Any], classes: dict[int, str]) -> tuple[str, Box]:
    category = one.get("category_id")
    if type(category) is not int or category not in classes:
        raise BadAnnotationError(f"there is no category {category}")
    name, box = classes[category], one.get("bbox")
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(n) in (int, float) and abs(n) < 1e30 for n in box)
    ):
        raise BadAnnotationError(f"a `bbox` of `{name}` is not four numbers")
    left, top, width, height = map(float, box)
    return name, (left, top, left + width, top + height)


def _without_outline(table: dict[str, Any]) -> dict[str, Any]:
    table.pop("segmentation", None)
    return table


def _list(table: Any, key: str) -> list[dict[str, Any]]:
    found = table.get(key) if isinstance(table, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadAnnotationError(f"it has no list of `{key}`")
    return found


def _key(table: dict[str, Any], key: str) -> int:
    found = table.get(key)
    if type(found) is not int:
        raise BadAnnotationError(f"a `{key}` is not a whole number")
    return found


def _text(table: dict[str, Any], key: str) -> str:
    found = table.get(key)
    if not isinstance(found, str) or not found:
        raise BadAnnotationError(f"a `{key}` is not a text")
    return found


def _bad(path: Path, why: str) -> VggspecError:
    return VggspecError(report(BadAnnotations(why=why), path=str(path)))
