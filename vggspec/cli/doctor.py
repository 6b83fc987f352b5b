"""``vggspec doctor``: what this machine can do, what it lacks, and whether a bundle runs on it."""

import json
import math
import re
import sys
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.cli.table import fitted, print_table, print_text
from vggspec.cli.terminal import table_width, use_color

if TYPE_CHECKING:
    from vggspec.studies.diagnosis import BundleDiagnosis, MachineDiagnosis

LEVELS = {"ok": "green", "unknown": "yellow", "problem": "red"}

_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|[^\s'"])+""")
"""A word of a command line that ``shlex.join`` wrote."""


@click.command(
    "doctor",
    epilog="""\b
Examples:
  vggspec doctor
  vggspec doctor D
  vggspec doctor D --json""",
)
@click.argument("bundle", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(bundle: str | None, *, as_json: bool) -> int:
    """List the libraries and devices of this machine, their purposes, and how to get missing ones.

    With BUNDLE, report whether it runs on this machine, and why not: its files are compared with
    their digests, and its engine with the machine, before anything is loaded.

    Exit code 3 if something is missing that every installation, or the bundle, requires.
    """
    from vggspec.studies.diagnosis import BundleDiagnosis, doctor

    found = doctor() if bundle is None else doctor(bundle)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    elif isinstance(found, BundleDiagnosis):
        _print_bundle(found)
    else:
        print_machine(found)
    return 0 if found.passed else 3


def print_machine(found: "MachineDiagnosis") -> None:
    """Print the components in a table, and the notes."""
    print_text(found.title)
    click.echo()
    rows = []
    for each in found.components:
        rows.append((each.name, each.version or "missing", each.purpose))
        if each.version is None:
            rows.append(("", "", each.remedy))
    print_table(rows, bold=())
    for note in found.notes:
        click.echo()
        print_text(f"Note: {note}.")


def _print_bundle(found: "BundleDiagnosis") -> None:
    color = use_color(sys.stdout)
    print_text(f"{shown(found.bundle)}: {_kind(found)}")
    click.echo()
    rows = [(each.level, shown(each.subject), shown(each.text)) for each in found.findings]
    for (level, _, _), (first, *rest) in zip(rows, fitted(rows, table_width()).rows, strict=True):
        styled = click.style(level, fg=LEVELS[level]) if color else level
        click.echo("\n".join((styled + first[len(level) :], *rest)), color=color)
    click.echo("\nIt should run here." if found.passed else "\nIt does not run here.")
    if found.manifest.engine is not None and any(f.level != "ok" for f in found.findings):
        click.echo("To rebuild it:\n")
        for line in found.rebuild:
            for part in _shell_lines(shown(line)):
                click.echo(f"  {part}")


def _kind(found: "BundleDiagnosis") -> str:
    from vggspec.runtime.tensorrt.library import FLAVOURS

    manifest = found.manifest
    net = f"net {shown(manifest.net)} in {manifest.precision}"
    if manifest.engine is None:
        return f"{net}, a graph for ONNX Runtime"
    engine = manifest.engine
    return f"{net}, an engine of {FLAVOURS[engine.flavour].title} {shown(engine.version)}"


def _shell_lines(command: str) -> list[str]:
    """A command line in lines that fit the terminal and that a shell joins again."""
    width = table_width()
    room = math.inf if width is None else width - len("  ") - len(" \\")
    lines = [""]
    for word in _WORD.findall(command):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
