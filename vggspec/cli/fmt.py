"""``vggspec fmt``: specs in canonical form."""

import difflib
import sys
from collections.abc import Sequence

import click

from vggspec.base.diagnostic import Report, VggspecError
from vggspec.base.wording import count
from vggspec.cli import terminal
from vggspec.cli.completing import SPEC
from vggspec.compiler.formatting import Formatted, format_spec


@click.command(
    "fmt",
    epilog="""\b
Examples:
  vggspec fmt specs/*.vgg
  vggspec fmt --check specs/*.vgg
  vggspec fmt --diff D.vgg
  vggspec fmt - < D.vgg
  vggspec fmt --from-table table1.txt > table1.vgg
  xclip -o | vggspec fmt --from-table -""",
)
@click.argument("specs", type=SPEC, nargs=-1, required=True, metavar="SPEC...")
@click.option("--check", is_flag=True, help="List the files that would change; exit code 1 if any.")
@click.option("--diff", is_flag=True, help="Print the changes.")
@click.option(
    "--from-table",
    is_flag=True,
    help="Read a table as it is copied from a paper, and print the spec.",
)
def command(specs: tuple[str, ...], *, check: bool, diff: bool, from_table: bool) -> int:
    """Format specs in place, or standard input for `-`.

    Files with mistakes of syntax are not changed. --check and --diff write nothing.

    --from-table takes one file, or `-`, with a table from a PDF (tabs, or columns of two or more
    spaces), a web page, Markdown or LaTeX. It prints the spec, and writes to standard error what it
    dropped or guessed. A part that is not understood is an error.
    """
    if from_table:
        return _from_table(specs, check=check, diff=diff)
    reports: list[Report] = []
    changed = 0
    for path in specs:
        try:
            found = format_spec(path)
        except VggspecError as error:
            reports.extend(error.reports)
            continue
        changed += found.is_changed
        if diff:
            _print_diff(found)
        elif check:
            if found.is_changed:
                click.echo(found.path)
        elif path == "-":
            click.echo(found.after, nl=False)
        elif found.is_changed:
            found.write()
            terminal.say("", f"formatted {found.path}")
    _print_reports(reports)
    return 1 if reports or (check and changed) else 0


def _from_table(paths: tuple[str, ...], *, check: bool, diff: bool) -> int:
    from vggspec.compiler.pasting import read_table

    if check or diff:
        message = f"--from-table prints a spec: leave out --{'check' if check else 'diff'}."
        raise click.UsageError(message)
    if len(paths) > 1:
        message = "--from-table takes one file."
        raise click.UsageError(message)
    try:
        found = read_table(paths[0])
    except VggspecError as error:
        _print_reports(error.reports)
        return 1
    for note in found.notes:
        terminal.say("note", note)
    click.echo(found.spec, nl=False)
    return 0


def _print_reports(reports: Sequence[Report]) -> None:
    if reports:
        from vggspec.base.render import as_text

        color = terminal.use_color(sys.stderr)
        click.echo(as_text(reports, color=color, width=terminal.width(sys.stderr)), err=True)
        click.echo(f"\n{count(len(reports), 'mistake')}", err=True)


def _print_diff(found: Formatted) -> None:
    before, after = (text.splitlines(keepends=True) for text in (found.before, found.after))
    for line in difflib.unified_diff(before, after, found.path, found.path):
        end = "" if line.endswith("\n") else "\n\\ No newline at end of file\n"
        click.echo(f"{line}{end}", nl=False)
