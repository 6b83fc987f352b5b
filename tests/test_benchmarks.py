"""The page of figures: made from what was measured, and quoted by the README as it is."""

from dataclasses import asdict

import pytest
from markdown_it import MarkdownIt

from benchmarks import page
from benchmarks.measure import Claim
from tests.conftest import ROOT

CLAIMS = [
    Claim("export | compile", 12.345, 10, at_least=True, detail="export 5 ms, compile 1 ms"),
    Claim("memory", 300, 200, at_least=False, unit=" MB"),
]
RECORD = {
    "date": "2026-01-31",
    "processor": "A processor, avx2",
    "cores": 2,
    "versions": {"Python": "3.11.7", "torch": "2.13.0"},
    "seconds": 61.4,
    "scripts": [
        {
            "name": "compile_d",
            "about": "Compile.",
            "seconds": 61,
            "claims": list(map(asdict, CLAIMS)),
        }
    ],
}


def rows(text: str) -> list[list[str]]:
    """The cells of the first table."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    cells = [token.content for token in tokens if token.type == "inline" and token.level == 4]
    return [cells[i : i + 3] for i in range(0, len(cells), 3)]


def test_a_page_has_the_machine_every_figure_and_its_raw_times() -> None:
    text = page.page(RECORD)
    assert "2026-01-31, 2 cores of A processor, avx2.\nPython 3.11.7, torch 2.13.0." in text
    assert "1 min 1 s" in text
    assert rows(text)[1:] == [
        ["export | compile", "12.35x", "at least 10x"],
        ["memory", "**300.00 MB**", "at most 200 MB"],
    ]
    assert "- export | compile: export 5 ms, compile 1 ms" in text
    assert "`python -m benchmarks compile_d`, 61 s." in text


def test_the_readme_quotes_the_table_and_keeps_the_rest() -> None:
    readme = f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n"
    text = page.quoted(readme, RECORD)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert rows(text) == rows(page.page(RECORD))
    assert page.quoted(text, RECORD) == text
    with pytest.raises(ValueError, match="needs the lines"):
        page.quoted("no place", RECORD)


def test_the_readme_quotes_the_page_that_is_here() -> None:
    quote = (ROOT / page.README).read_text("utf-8").partition(page.BEGIN)[2].partition(page.END)[0]
    written = (ROOT / page.PAGE).read_text("utf-8")
    assert rows(quote)
    assert rows(quote) == rows(written)
