"""Pascal VOC's XML: files written by hand, numbers checked by hand."""

from pathlib import Path

import pytest

from vggspec.data.annotation import MAX_OBJECTS, Annotation, BadAnnotationError, annotation
from vggspec.data.voc import MAX_XML_BYTES, parse_voc, read_voc

#: As VOC 2007 writes them: a person with a head, whose box is none of an object.
PERSON = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>000017.jpg</filename>
	<source><database>The VOC2007 Database</database></source>
	<size><width>480</width><height>364</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>person</name>
		<pose>Left</pose>
		<truncated>0</truncated>
		<difficult>1</difficult>
		<part>
			<name>head</name>
			<bndbox><xmin>200</xmin><ymin>60</ymin><xmax>220</xmax><ymax>80</ymax></bndbox>
		</part>
		<bndbox><xmin>185</xmin><ymin>62</ymin><xmax>279</xmax><ymax>199</ymax></bndbox>
	</object>
	<object>
		<name>horse</name>
		<bndbox><xmin>90</xmin><ymin>78</ymin><xmax>403</xmax><ymax>336</ymax></bndbox>
	</object>
</annotation>
"""

ONE = """\
<annotation>
  <size><width>10</width><height>8</height></size>
  <object>
    <name>cat</name>
    <bndbox><xmin>1</xmin><ymin>3</ymin><xmax>10</xmax><ymax>3</ymax></bndbox>
  </object>
</annotation>
"""


def changed(old: str, new: str) -> bytes:
    assert old in ONE
    return ONE.replace(old, new).encode()


def parsed(data: bytes) -> Annotation:
    written = parse_voc(data)
    assert written.size is not None
    return annotation(written.size, written.objects)


def test_sides_are_counted_from_one_with_the_last_pixel() -> None:
    found = parsed(PERSON.encode())
    assert found.size == (364, 480)
    assert found.names == ("person", "horse")
    # Columns 184 to 278 counted from 0; 95 of them, as 279 - 185 + 1.
    assert found.boxes == ((184, 61, 279, 199), (89, 77, 403, 336))
    assert not found.is_clipped


def test_a_whole_row() -> None:
    found = parsed(ONE.encode())
    assert found.boxes == ((0, 2, 10, 3),)


def test_what_lies_outside_is_cut_off() -> None:
    found = parsed(changed("<xmax>10<", "<xmax>11<"))
    assert found.boxes == ((0, 2, 10, 3),)
    assert found.is_clipped
    assert parsed(changed("<xmin>1<", "<xmin>0<")).boxes == ((0, 2, 10, 3),)


def test_fractions_of_pixels_are_kept() -> None:
    found = parsed(changed("<xmin>1<", "<xmin> 2.25 <"))
    assert found.boxes == ((1.25, 2, 10, 3),)


def test_an_image_without_objects() -> None:
    text = b"<annotation><size><width>3</width><height>2</height></size></annotation>"
    found = parsed(text)
    assert found.names == ()
    assert found.boxes == ()


def test_a_byte_order_mark_is_none_of_the_text() -> None:
    assert parsed(b"\xef\xbb\xbf" + ONE.encode()).names == ("cat",)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("<xmin>1<", "<xmin>11<", "has an empty box"),
        ("<ymax>3<", "<ymax>2<", "has an empty box"),
        ("<xmin>1<", "<xmin>nan<", "has an empty box"),
        ("<xmax>10<", "<xmax>inf<", "has an empty box"),
        ("<xmin>1</xmin><ymin>3<", "<xmin>1</xmin><ymin>9<", "has an empty box"),
        ("<ymin>3</ymin><xmax>10</xmax><ymax>3<", "<ymin>9</ymin><xmax>10</xmax><ymax>9<",
         "object 1, `cat`, lies outside"),
        ("<xmin>1<", "<xmin>one<", "`xmin` is not a number"),
        ("<xmin>1</xmin>", "", "`bndbox` has no `xmin`"),
        ("<name>cat</name>", "<name> </name>", "a `name` is empty"),
        ("<name>cat</name>", "", "`object` has no `name`"),
        ("<width>10<", "<width>0<", "0 × 8 pixels"),
        ("<width>10<", "<width>10.5<", "not a whole number"),
        ("<width>10<", "<width>1e300<", "pixels"),
        ("<width>10<", "<width>-10<", "-10 × 8 pixels"),
        ("<size>", "<sizes>", "not XML"),
        ("<height>8</height>", "", "`size` has no `height`"),
        ("annotation>", "annotations>", "it is `annotations`, not `annotation`"),
        ("bndbox>", "robndbox>", "`object` has no `bndbox`"),
        ("</annotation>", "", "not XML"),
        ("<annotation>", "<!DOCTYPE a><annotation>", "document type"),
        ("<name>cat", '<!DOCTYPE a [<!ENTITY e "x">]><name>&e;', "document type"),
        ("<name>cat", "<name>&e;", "not XML"),
        ("cat", "\udce4", "not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_true_is_said(old: str, new: str, why: str) -> None:
    text = ONE.replace(old, new).encode(errors="surrogateescape")
    assert text != ONE.encode()
    with pytest.raises(BadAnnotationError, match=why):
        parsed(text)


#: As CVAT, Roboflow and roLabelImg write objects: sides in another order, with fractions, and what
#: is a tool's own.
ELSEWHERE = """\
<?xml version="1.0" encoding="utf-8"?>
<annotation verified="yes">
  <!-- exported -->
  <folder></folder>
  <filename>frame 1.png</filename>
  <path>C:\\data\\frame 1.png</path>
  <size><width>352.0</width><height>288</height><depth></depth></size>
  <object>
    <type>bndbox</type>
    <name>Zebrastreifen ½</name>
    <occluded>0</occluded>
    <bndbox>
      <xmin>324.4</xmin>
      <xmax>352.0</xmax>
      <ymin>-0.5</ymin>
      <ymax>136.2</ymax>
    </bndbox>
    <attributes><attribute><name>rotation</name><value>0.0</value></attribute></attributes>
  </object>
</annotation>
"""


def test_what_other_tools_write() -> None:
    found = parsed(ELSEWHERE.encode())
    assert found.size == (288, 352)
    assert found.names == ("Zebrastreifen ½",)
    assert found.boxes == ((pytest.approx(323.4), 0, 352, 136.2),)
    assert found.is_clipped


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<size><width>10</width><height>8</height></size>", ""),
        ("<width>10</width><height>8<", "<width>0</width><height>0<"),
    ],
)
def test_a_size_may_not_be_told(old: str, new: str) -> None:
    written = parse_voc(changed(old, new))
    assert written.size is None
    assert written.objects == [("cat", (0, 2, 10, 3))]


def test_files_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "1.xml"
    path.write_text(ONE + " " * MAX_XML_BYTES)
    with pytest.raises(BadAnnotationError, match="too long"):
        read_voc(path)
    begin, end = ONE.index("<object>"), ONE.index("</annotation>")
    path.write_text(ONE[:begin] + ONE[begin:end] * (MAX_OBJECTS + 1) + ONE[end:])
    with pytest.raises(BadAnnotationError, match=f"more than {MAX_OBJECTS}"):
        parsed(path.read_bytes())
    with pytest.raises(BadAnnotationError, match="no such file"):
        read_voc(tmp_path / "2.xml")
