"""Pasted text that is damaged, endless or nested is refused, and every guess stays bounded."""

from pathlib import Path

import pytest

from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.pasting import from_table, read_table
from vggspec.lang.loading import MAX_BYTES

HEAD = "A\tB\nconv3-8\tconv3-8\n"
TABULAR = "\\begin{tabular}{c} A \\\\ "


def filled(unit: str) -> str:
    """As much of a unit as a file may hold."""
    return unit * (MAX_BYTES // len(unit.encode()) - 10)


HOSTILE = {
    "bars": filled("|"),
    "cells": filled("|a"),
    "tabs": filled("conv3-8\t"),
    "lines": filled("conv3-8\n"),
    "commas": HEAD + filled(","),
    "junk": HEAD + filled("a,"),
    "junk in rows": HEAD + "x\ty\n" * 4000,
    "open brackets": HEAD + filled("["),
    "open parentheses": HEAD + filled("("),
    "nested brackets": HEAD + "[" * 1000 + "conv3-8" + "]" * 1000,
    "digits": HEAD + filled("9"),
    "sizes": HEAD + filled("3×3, "),
    "bold": HEAD + filled("<b"),
    "repeats": f"{HEAD}conv3-8 x999999999\n",
    "open tags": "<table>" + filled("<td"),
    "cells of a page": "<table><tr>" + filled("<td>"),
    "tables in tables": filled("<table>"),
    "comments": "<table>" + filled("<!--"),
    "attributes": "<table><td " + filled("a=b "),
    "ampersands": "<table><tr><td>" + filled("&"),
    "columns": "<table><tr><td colspan=99999>A",
    "braces": TABULAR + filled("{"),
    "beginnings": filled("\\begin{tabular}{c}"),
    "arrays": TABULAR + filled("\\begin{array}{c}"),
    "commands in commands": TABULAR + "\\textbf{" * 2000 + "}" * 2000 + "\\end{tabular}",
    "backslashes": TABULAR + filled("\\") + "\\end{tabular}",
    "definitions": "\\def\\a{xx}"
    + "".join(f"\\def\\{chr(98 + i)}{{\\{chr(97 + i)}\\{chr(97 + i)}}}" for i in range(20))
    + TABULAR
    + "\\u\\end{tabular}",
    "a definition of itself": "\\def\\a{\\a\\a}" + TABULAR + "\\a\\end{tabular}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_refused(text: str) -> None:
    with pytest.raises(VggspecError) as found:
        from_table(text)
    assert len(found.value.reports) <= 1001


def test_a_megabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.txt"
    path.write_text("|" * (1 << 20))
    with pytest.raises(VggspecError, match="VGG013"):
        read_table(path)
