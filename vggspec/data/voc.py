"""Annotations as Pascal VOC writes them, which are ILSVRC's too: an XML file for each image.

Sides are counted from 1, the last pixel included: xmin 1 and xmax 10 are the columns 0 to 9. Parts
of an object (heads and hands) are skipped; objects that are difficult or truncated count.

Some tools leave out the size of the image, or write zeros.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge 2012 Development Kit",
section 8.
"""

import os
from xml.etree import ElementTree as ET

from vggspec.base.regular_files import read_file
from vggspec.base.wording import reason
from vggspec.data.annotation import BadAnnotationError, Box, RawAnnotation, Size

#: An object takes a few hundred bytes.
MAX_XML_BYTES = 4 << 20


def read_voc(path: str | os.PathLike[str]) -> RawAnnotation:
    """The annotation in a file.

    Raises:
        BadAnnotationError: there is no such file, or it is no annotation.
    """
    try:
        return parse_voc(read_file(path, MAX_XML_BYTES))
    except OSError as error:
        raise BadAnnotationError(reason(error)) from error


def parse_voc(data: bytes) -> RawAnnotation:
    """The annotation in the bytes of a file, which are UTF-8.

    Raises:
        BadAnnotationError: it is none.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadAnnotationError("it is not UTF-8 text") from error
    if "<!DOCTYPE" in text:  # without one there are no entities that could grow
        raise BadAnnotationError("it declares a document type, which no annotation needs")
    try:
        root = ET.fromstring(text)  # noqa: S314 (no entities, and bounded)
    except (ET.ParseError, ValueError) as error:
        raise BadAnnotationError(f"it is not XML: {error}") from error
    if root.tag != "annotation":
        raise BadAnnotationError(f"it is `{root.tag}`, not `annotation`")
    return RawAnnotation(_size(root), [_object(one) for one in root.iterfind("object")])


def _size(root: ET.Element) -> Size | None:
    size = root.find("size")
    if size is None:
        return None
    height, width = _side(size, "height"), _side(size, "width")
    return (height, width) if height or width else None


def _object(one: ET.Element) -> tuple[str, Box]:
    bounds = _child(one, "bndbox")
    left, top = _number(bounds, "xmin"), _number(bounds, "ymin")
    right, bottom = _number(bounds, "xmax"), _number(bounds, "ymax")
    return _text(one, "name"), (left - 1, top - 1, right, bottom)


def _side(size: ET.Element, key: str) -> int:
    number = _number(size, key)
    if not number.is_integer():
        raise BadAnnotationError(f"its `{key}` is not a whole number")
    return int(number)


def _number(element: ET.Element, key: str) -> float:
    text = _text(element, key)
    try:
        return float(text)
    except ValueError as error:
        raise BadAnnotationError(f"its `{key}` is not a number") from error


def _text(element: ET.Element, key: str) -> str:
    text = (_child(element, key).text or "").strip()
    if not text:
        raise BadAnnotationError(f"a `{key}` is empty")
    return text


def _child(element: ET.Element, key: str) -> ET.Element:
    found = element.find(key)
    if found is None:
        raise BadAnnotationError(f"`{element.tag}` has no `{key}`")
    return found
