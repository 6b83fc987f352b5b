"""Places in a text, and how a text is read."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.refusals import told
from vggspec.base.diagnostic import VggspecError
from vggspec.base.source import Location, Source, Span
from vggspec.base.wording import foreign
from vggspec.lang.loading import MAX_BYTES, from_bytes, read

TEXTS = st.text(alphabet=st.sampled_from("ab\n\t é×\U0001f600"), max_size=60)


def _code(error: pytest.ExceptionInfo[VggspecError]) -> str:
    (report,) = error.value.reports
    return report.what.code


@given(TEXTS, st.data())
def test_locate_and_offset_are_inverse(text: str, data: st.DataObject) -> None:
    source = Source("t", text)
    offset = data.draw(st.integers(0, len(text)))
    place = source.locate(offset)
    assert source.offset(place) == offset
    assert place.line == text.count("\n", 0, offset) + 1
    assert place.column == offset - (text.rfind("\n", 0, offset) + 1) + 1


@given(TEXTS)
def test_lines_are_the_text(text: str) -> None:
    source = Source("t", text)
    lines = [source.line_text(i + 1) for i in range(len(source.line_starts))]
    assert "\n".join(lines) == text
    assert source.num_lines == len(text.splitlines())


@given(TEXTS, st.integers(-5, 100))
def test_locate_never_leaves_the_text(text: str, offset: int) -> None:
    place = Source("t", text).locate(offset)
    assert Location(1, 1) <= place
    assert 0 <= Source("t", text).offset(place) <= len(text)


def test_end_of_file() -> None:
    assert Source("t", "ab\n").locate(3) == Location(2, 1)
    assert Source("t", "ab").locate(2) == Location(1, 3)
    assert Source("t", "").locate(0) == Location(1, 1)
    assert Source("t", "ab\n").num_lines == 1
    assert Source("t", "ab").num_lines == 1
    assert Source("t", "").num_lines == 0


def test_span() -> None:
    assert 2 in Span(2, 4)
    assert 4 not in Span(2, 4)
    assert 2 not in Span(2, 2)
    assert Span(5, 6).to(Span(1, 2)) == Span(1, 6)
    assert Source("t", "conv3-64").slice(Span(4, 8)) == "3-64"
    with pytest.raises(AssertionError):
        Span(3, 2)


@pytest.mark.parametrize(
    "data", [b"a\nb\n", b"a\r\nb\r\n", b"a\rb\r", b"\xef\xbb\xbfa\nb\n"], ids=repr
)
def test_line_endings_and_byte_order_mark(data: bytes) -> None:
    source = from_bytes("t", data)
    assert source.text == "a\nb\n"
    assert source.locate(2) == Location(2, 1)


def test_no_final_newline() -> None:
    source = from_bytes("t", b"a\nb")
    assert source.line_text(2) == "b"
    assert source.num_lines == 2


@pytest.mark.parametrize(
    ("data", "offset"), [(b"conv\xff", 4), (b"\x00", 0), (b"\x89PNG\r\n", 0), (b"a\xc3", 1)]
)
def test_not_text(data: bytes, offset: int) -> None:
    with pytest.raises(VggspecError) as error:
        from_bytes("t", data)
    assert _code(error) == "VGG012"
    assert f"byte {offset} " in told(error.value)


def test_limit() -> None:
    assert len(from_bytes("t", b"#" * MAX_BYTES).text) == MAX_BYTES
    with pytest.raises(VggspecError) as error:
        from_bytes("t", b"#" * (MAX_BYTES + 1))
    assert _code(error) == "VGG013"


def test_large_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.vgg"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(VggspecError) as error:
        read(path)
    assert _code(error) == "VGG013"


def test_missing_file_has_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "table1.vgg").write_text("FC-10\n")
    for name in ("table.vgg", "tabel1"):
        with pytest.raises(VggspecError) as error:
            read(tmp_path / name)
        assert _code(error) == "VGG010"
        assert f"did you mean `{tmp_path / 'table1.vgg'}`?" in told(error.value)
    with pytest.raises(VggspecError) as error:
        read(tmp_path / "nowhere" / "D.vgg")
    assert "did you mean `D`, which comes with vggspec?" in told(error.value)
    with pytest.raises(VggspecError) as error:
        read(tmp_path / "nowhere" / "unlike.vgg")
    assert error.value.reports[0].what.help() == "name a file, or a spec that `vggspec specs` lists"


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(VggspecError) as error:
        read(tmp_path)
    assert _code(error) == "VGG011"
    (tmp_path / "D.vgg").touch()
    with pytest.raises(VggspecError) as error:
        read(tmp_path)
    assert "such as `D.vgg`" in told(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.vgg")
    for path in (tmp_path / "pipe.vgg", Path("/dev/zero")):
        with pytest.raises(VggspecError) as error:
            read(path)
        assert _code(error) == "VGG014"


@pytest.mark.parametrize("name", ["a\0b.vgg", "x" * 5000 + ".vgg"])
def test_impossible_paths(name: str) -> None:
    with pytest.raises(VggspecError) as error:
        read(name)
    assert _code(error) == "VGG015"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.vgg").symlink_to("b.vgg")
    (tmp_path / "b.vgg").symlink_to("a.vgg")
    with pytest.raises(VggspecError) as error:
        read(tmp_path / "a.vgg")
    assert _code(error) == "VGG015"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "D.vgg"
    path.touch()
    path.chmod(0)
    with pytest.raises(VggspecError) as error:
        read(path)
    assert _code(error) == "VGG015"


def test_source_needs_no_lark() -> None:
    """The runtime reports with these, and is installed without the compiler's libraries."""
    script = "import sys, vggspec.base.source; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "limit", "said"),
    [
        ("Cannot open it.", 500, "cannot open it"),
        ("HTTP said\n\t404\r\n", 500, "HTTP said 404"),
        ("\x1b[1mbold\x1b[0m, \x1b]0;title\x07\x9b31mred\x1bM", 500, "bold, red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", 500, "link"),
        ("a\0b\ud800c\u202ed\x7fe\x1b", 500, "a b c d e"),
        ("one two three four", 12, "one two …"),
        ("one two three", 13, "one two three"),
        ("One two. Three four. Five six seven", 24, "one two. Three four. …"),
        ("x" * 30, 10, "x" * 10 + " …"),
        ("", 10, ""),
        (" .\n", 10, ""),
    ],
)
def test_what_a_library_said_is_fit_to_be_shown(text: str, limit: int, said: str) -> None:
    assert foreign(text, limit) == said
