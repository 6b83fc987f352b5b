"""``vggspec fmt``: specs in canonical form."""

import difflib
import sys

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
  vggspec fmt - < D.vgg""",
)
@click.argument("specs", type=SPEC, nargs=-1, required=True, metavar="SPEC...")
@click.option("--check", is_flag=True, help="List the files that would change; exit code 1 if any.")
@click.option("--diff", is_flag=True, help="Print the changes.")
def command(specs: tuple[str, ...], *, check: bool, diff: bool) -> int:
    """Format specs in place, or standard input for `-`.

    Files with mistakes of syntax are not changed. --check and --diff write nothing.
    """
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
                click.echo(path)
        elif path == "-":
            click.echo(found.after, nl=False)
        elif found.is_changed:
            found.write()
            terminal.say("", f"formatted {path}")
    if reports:
        from vggspec.base.render import as_text

        color = terminal.use_color(sys.stderr)
        click.echo(as_text(reports, color=color, width=terminal.width(sys.stderr)), err=True)
        click.echo(f"\n{count(len(reports), 'mistake')}", err=True)
    return 1 if reports or (check and changed) else 0


def _print_diff(found: Formatted) -> None:
    before, after = (text.splitlines(keepends=True) for text in (found.before, found.after))
    for line in difflib.unified_diff(before, after, found.path, found.path):
        end = "" if line.endswith("\n") else "\n\\ No newline at end of file\n"
        click.echo(f"{line}{end}", nl=False)
