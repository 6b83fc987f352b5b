"""``vggspec check``: every mistake of the specs, in one run."""

import sys
from typing import TYPE_CHECKING

import click

from vggspec.base.wording import count
from vggspec.cli import terminal
from vggspec.cli.completing import SPEC
from vggspec.compiler.checking import check_target

if TYPE_CHECKING:
    from vggspec.base.diagnostic import Report


@click.command(
    "check",
    epilog="""\b
Examples:
  vggspec check specs/*.vgg
  vggspec check specs/table1.vgg:D
  vggspec check --format github specs/*.vgg
  cat D.vgg | vggspec check -""",
)
@click.argument("specs", type=SPEC, nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="Write reports as text, as JSON for editors, or as annotations for GitHub.",
)
def command(specs: tuple[str, ...], form: str) -> int:
    """Check specs and report every mistake, in syntax, names, shapes, claims and recipes.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D. The exit code is 1 if there is a mistake.
    """
    from vggspec.base import render

    reports: list[Report] = []
    for target in specs:
        checked = check_target(target)
        reports.extend(checked.reports)
        if form == "text" and not checked.reports:
            click.echo(f"{render.shown(target)}: {', '.join(checked.nets)}")
    if form == "json":
        click.echo(render.as_json(reports))
    elif form == "github":
        if reports:
            click.echo(render.as_github(reports))
    elif reports:
        color = terminal.use_color(sys.stdout)
        click.echo(render.as_text(reports, color=color, width=terminal.width(sys.stdout)))
        click.echo(f"\n{count(len(reports), 'mistake')}")
    return 1 if reports else 0
