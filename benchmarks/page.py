"""docs/benchmarks.md, and the table in the README, from what was measured."""

import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Claim

PAGE = Path("docs/benchmarks.md")
README = Path("README.md")
#: Between these lines of the README is the table of the last run.
BEGIN, END = "<!-- python -m benchmarks writes this -->", "<!-- to here -->"
COLUMNS = ("figure", "measured", "bound")

INTRODUCTION = """\
`make bench` wrote this page. Each figure and its peer were measured in one run, taking turns, and
a ratio is the median of the ratios of such turns. A figure in bold does not meet its bound here."""

Record = dict[str, Any]


def write(record: Record) -> None:
    """Replace the page and the README's table."""
    PAGE.write_text(page(record), "utf-8")
    README.write_text(quoted(README.read_text("utf-8"), record), "utf-8")


def duration(seconds: float) -> str:
    """Such as ``11 min 2 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def page(record: Record) -> str:
    """The page: the machine, a table of all figures, and each script with its raw times."""
    scripts = [(each, claims_of(each)) for each in record["scripts"]]
    parts = [
        "# Benchmarks",
        INTRODUCTION,
        _machine(record),
        f"The whole run took {duration(record['seconds'])}.",
        _table(claim for _, claims in scripts for claim in claims),
    ]
    for script, claims in scripts:
        parts.append(f"## {script['name']}\n\n{script['about']}")
        details = [f"- {claim.name}: {claim.detail}" for claim in claims if claim.detail]
        if details:
            parts.append("\n".join(details))
        parts.append(f"`python -m benchmarks {script['name']}`, {script['seconds']:.0f} s.")
    return "\n\n".join(parts) + "\n"


def quoted(readme: str, record: Record) -> str:
    """The README with the machine and the table of this run.

    Raises:
        ValueError: it has no place for them.
    """
    claims = [claim for script in record["scripts"] for claim in claims_of(script)]
    text = f"{BEGIN}\n\n{_machine(record)}\n\n{_table(claims)}\n\n{END}"
    found, number = re.subn(
        f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: text, readme, flags=re.DOTALL
    )
    if number != 1:
        raise ValueError(f"{README} needs the lines {BEGIN} and {END} once")
    return found


def claims_of(script: Record) -> list[Claim]:
    """What a script measured."""
    return [Claim(**fields) for fields in script["claims"]]


def _machine(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    where = f"{record['date']}, {record['cores']} cores of {record['processor']}."
    return f"{where}\n{textwrap.fill(versions, 120)}."


def _table(claims: Iterable[Claim]) -> str:
    return "\n".join(_rows(claims))


def _rows(claims: Iterable[Claim]) -> Iterator[str]:
    yield _row(COLUMNS)
    yield "|---|---|---|"
    for claim in claims:
        measured = claim.measured if claim.holds else f"**{claim.measured}**"
        yield _row((claim.name, measured, claim.limit))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
