"""The documents are what GitHub shows: tables whole, fences closed, links that lead somewhere."""

import itertools
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(
        part.startswith(".") or part in ("build", "demo", "runs", "bench-out")
        for part in path.relative_to(ROOT).parts
    )
)
CELL = re.compile(r"(?<!\\)\|")


def parsed(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def mistakes(document: Path, text: str) -> list[str]:
    """What is wrong with a document, each with its line."""
    lines = text.splitlines()
    found = []
    for token in parsed(text):
        first, last = token.map or (0, 0)
        if token.type == "fence" and lines[last - 1].strip() != token.markup:
            found.append(f"{first + 1}: a fence that is not closed")
        if token.type == "inline" and token.content.lstrip().startswith("|"):
            found.append(f"{first + 1}: a row outside of a table")
        if token.type == "table_open":
            # GitHub drops cells past the header's, and fills in those that are missing.
            cells = [len(CELL.findall(line.strip())) for line in lines[first:last]]
            found += [
                f"{first + 1 + i}: {number - 1} cells, the header has {cells[0] - 1}"
                for i, number in enumerate(cells)
                if number != cells[0]
            ]
        for link in token.children or []:
            target = link.attrs.get("href", link.attrs.get("src")) if link.attrs else None
            if isinstance(target, str) and not leads_somewhere(document, text, target):
                found.append(f"{first + 1}: {target} leads nowhere")
    return found


def leads_somewhere(document: Path, text: str, target: str) -> bool:
    """Whether the file of a link is there, and the heading that it names; no site is asked."""
    if "://" in target:
        return True
    name, _, anchor = target.partition("#")
    path = document.parent / name
    if name:
        if not path.exists():
            return False
        text = path.read_text("utf-8") if path.suffix == ".md" else ""
    return not anchor or anchor in anchors(text)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    tokens = parsed(text)
    found: set[str] = set()
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            words = "".join(part.content for part in inline.children or [])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number = 0
            while (anchor := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(anchor)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_are_shown_as_they_are_meant(document: Path) -> None:
    assert mistakes(document, document.read_text("utf-8")) == []


TABLE = "| a | b |\n|---|---|\n| 1 | 2 |\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TABLE, []),
        (f"{TABLE}| 3 | `x \\| y` |\n", []),
        (f"{TABLE}\n| 3 | 4 |\n", ["5: a row outside of a table"]),
        ("| a | b |\n| 1 | 2 |\n", ["1: a row outside of a table"]),
        (f"{TABLE}| 3 |\n", ["4: 1 cells, the header has 2"]),
        ("```console\n$ vggspec\n```\n", []),
        ("text\n\n```console\n$ vggspec\n", ["3: a fence that is not closed"]),
        ("# Of `x`, and y\n\n[x](#of-x-and-y), [one](README.md)\n", []),
        (
            "[one](#one)\n[two](nowhere.md)\n",
            ["1: #one leads nowhere", "1: nowhere.md leads nowhere"],
        ),
        ("[one](README.md#no-such-heading)\n", ["1: README.md#no-such-heading leads nowhere"]),
    ],
)
def test_what_is_wrong_is_found(text: str, expected: list[str]) -> None:
    assert mistakes(ROOT / "some.md", text) == expected
