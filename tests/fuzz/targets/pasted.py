"""Tables as they are copied: those of the tests damaged, and pieces of cells in every form."""

import time
from pathlib import Path
from random import Random

from tests.fuzz.harness import answer
from tests.lang.pasting import FOLDER
from vggspec.base.diagnostic import VggspecError
from vggspec.base.source import Source
from vggspec.compiler.checking import check_source
from vggspec.compiler.pasting import from_table
from vggspec.lang.loading import MAX_BYTES

SECONDS = 6.0
"""What a text may take of the processor, other processes beside it."""

TABLES = tuple(path.read_text("utf-8") for path in sorted(FOLDER.iterdir()))

PIECES = (
    "conv3-8", "3×3, 8", "3x3 conv, 8", "conv 3×3 (8)", "7 × 7, 8, /2", "max pool, 2×2", "maxpool",
    "average pool, 10-d fc, softmax", "FC-10", "[3×3, 8; 3×3, 8] ×2", "[3×3, 8", "3×3, 8] ×2",
    "3 weight layers", "input (32 × 32 RGB image)", "LRN", "4096", "pool", "relu", "×", "- ", "",
    "<b>conv3-8</b>", "**LRN**", "&times;", "†", "$3\\times3$, 8", "\\textbf{FC-10}", "⎡3×3, 8⎤",
    "⎣3×3, 8⎦×2", "Number of parameters", "FLOPs", "1.8×10⁹", "56×56", "name", "output size", "В",
)  # fmt: skip


def one(random: Random, folder: Path) -> str:
    """A text that gives a spec without mistakes, or reports at places of the text."""
    text = _text(random)[: MAX_BYTES // 2]
    start = time.process_time()
    kind = answer(lambda: _read(text))
    taken = time.process_time() - start
    assert taken < SECONDS, f"{taken:.1f} s for {len(text)} characters: {text[:200]!r}"
    return kind


def _read(text: str) -> None:
    try:
        spec = from_table(text).spec
    except VggspecError as error:
        for report in error.reports:
            assert report.source is not None
            assert report.span is not None
            assert report.source.text == text
            assert report.span.end <= len(text), report
        raise
    assert not check_source(Source("spec.vgg", spec)).reports


def _text(random: Random) -> str:
    kind = random.randrange(4)
    if kind == 0:
        return _damaged(random, random.choice(TABLES))
    if kind == 1:
        return random.choice(PIECES) * random.choice((10, 1000, 30_000))
    columns = random.choice((1, 2, 2, 3, 6))
    names = list("ABCDEF"[:columns])
    cells = [
        [random.choice(PIECES) if random.randrange(8) else "" for _ in range(columns)]
        if random.randrange(3)
        else [random.choice(PIECES)]
        for _ in range(random.randrange(1, 12))
    ]
    return _written(random, [names, *cells], columns)


def _written(random: Random, rows: list[list[str]], columns: int) -> str:
    form = random.randrange(5)
    if form == 0:
        return "".join("\t".join(row) + "\n" for row in rows)
    if form == 1:
        return "".join(" | ".join(row) + "\n" for row in rows)
    if form == 2:
        return "".join("".join(cell.center(40) for cell in row) + "\n" for row in rows)
    if form == 3:
        spans = [f" colspan={columns}" if len(row) == 1 else "" for row in rows]
        return "<table>" + "".join(
            "<tr>" + "".join(f"<td{span}>{cell}" for cell in row)
            for span, row in zip(spans, rows, strict=True)
        )
    lines = [
        f"\\multicolumn{{{columns}}}{{c}}{{{row[0]}}}" if len(row) == 1 else " & ".join(row)
        for row in rows
    ]
    return "\\begin{tabular}{c}\n" + " \\\\ \\hline\n".join(lines) + "\n\\end{tabular}\n"


def _damaged(random: Random, text: str) -> str:
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(text) or 1)
        to = min(len(text), at + random.randrange(1, 40))
        middle = random.choice(
            ("", text[at:to] * 2, random.choice("[](){}<>|&\\\t\n×x0"), random.choice(PIECES))
        )
        text = text[:at] + middle + text[to:]
    return text
