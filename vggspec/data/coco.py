"""Annotations as COCO writes them: one JSON file for all images of a split.

A box is left, top, width, height, from the corner of the first pixel. Boxes around crowds, which
stand for many objects, are passed over.

Source: Lin et al. 2014, and https://cocodataset.org/#format-data, "Object Detection".
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggspec.catalogue.annotations import BadAnnotations
from vggspec.data.annotation import Annotation, BadAnnotationError, annotation, checked_name
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason

#: Four times those of the 118 287 training images of 2017.
MAX_JSON_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CocoFile:
    """What a file says, and what of it cannot be used."""

    classes: tuple[str, ...]
    """The names of the categories, sorted."""

    images: dict[str, Annotation]
    """By the names of the image files, in their order."""

    bad: dict[str, str]
    """Images, and annotations of none, each with the reason."""


def read_coco(path: Path) -> CocoFile:
    """What a file says of its images.

    Raises:
        VggspecError: it cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise _bad(path, "the file is too long")
        # Outlines take most of such a file, so they go as soon as they are read.
        table = json.loads(path.read_bytes(), object_hook=_without_outline)
    except OSError as error:
        raise _bad(path, reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"it is not JSON, {error}") from error
    try:
        return _file(table)
    except BadAnnotationError as error:
        raise _bad(path, str(error)) from error


def _file(table: Any) -> CocoFile:
    categories = {_key(one, "id"): _text(one, "name") for one in _list(table, "categories")}
    names = tuple(sorted(categories.values()))
    if len(set(names)) < len(names) or len(names) < len(table["categories"]):
        raise BadAnnotationError("two categories have the same name or number")
    images = {_key(one, "id"): one for one in _list(table, "images")}
    if len(images) < len(table["images"]):
        raise BadAnnotationError("two images have the same number")
    objects: dict[int, list[dict[str, Any]]] = {number: [] for number in images}
    bad: dict[str, str] = {}
    for one in _list(table, "annotations"):
        number = _key(one, "image_id")
        if number not in images:
            bad[f"annotation {one.get('id')}"] = f"there is no image {number}"
        elif not one.get("iscrowd"):
            objects[number].append(one)
    found: dict[str, Annotation] = {}
    for number, image in images.items():
        name = _text(image, "file_name")
        try:
            if checked_name(name) in found or name in bad:
                raise BadAnnotationError("two images have this name")
            size = _key(image, "height"), _key(image, "width")
            found[name] = annotation(size, _objects(objects[number], categories))
        except BadAnnotationError as error:
            found.pop(name, None)
            bad[name] = str(error)
    return CocoFile(classes=names, images={name: found[name] for name in sorted(found)}, bad=bad)


def _objects(
    objects: list[dict[str, Any]], categories: dict[int, str]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    for one in objects:
        category = one.get("category_id")
        if type(category) is not int or category not in categories:
            raise BadAnnotationError(f"there is no category {category}")
        yield categories[category], _box(one.get("bbox"), categories[category])


def _box(written: Any, name: str) -> tuple[float, float, float, float]:
    is_box = isinstance(written, list) and len(written) == 4
    if not is_box or not all(type(n) in (int, float) and abs(n) < 1e30 for n in written):
        raise BadAnnotationError(f"a `bbox` of `{name}` is not four numbers")
    left, top, width, height = (float(number) for number in written)
    return left, top, left + width, top + height


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
