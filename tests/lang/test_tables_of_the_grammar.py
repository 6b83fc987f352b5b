"""lark's tables are made of the grammar once, and kept beside the bytecode."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vggspec.base.source import Source
from vggspec.lang import parser

#: Right lines, and some of each kind of wrong ones.
SPECS = [
    *(ROOT / "specs" / f"{name}.vgg" for name in ("densenet", "digits", "table1")),
    *sorted((ROOT / "tests/golden/diagnostics").glob("VGG00*.vgg")),
]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the tables are kept."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(parser, "__file__", str(tmp_path / "parser.py"))
    monkeypatch.setattr(sys, "pycache_prefix", None)
    found = tmp_path / "__pycache__" / f"parser.{sys.implementation.cache_tag}.lark"
    yield found
    _forget()


def _forget() -> None:
    parser._lark.cache_clear()
    parser._parsed.cache_clear()


def _read() -> list[tuple[object, list[str]]]:
    """All that the parser makes of the specs, in a process that has just begun."""
    _forget()
    found = []
    for each in SPECS:
        document, reports = parser.parse_leniently(Source(each.name, each.read_text("utf-8")))
        found.append((document, [str(one) for one in reports.sorted()]))
    return found


def test_kept_tables_read_the_same(path: Path) -> None:
    path.parent.mkdir()
    made = _read()
    assert any(reports for _, reports in made)
    kept = path.read_bytes()
    assert _read() == made
    assert path.read_bytes() == kept
    for damaged in (b"", kept[: len(kept) // 2], b"another grammar\n" + kept):
        path.write_bytes(damaged)
        assert _read() == made
        assert path.read_bytes().startswith(kept[:64])


def test_tables_are_kept_where_bytecode_may_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _read()  # there is no folder
    path.parent.mkdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert _read() == made
    assert not path.exists()
