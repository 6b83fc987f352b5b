"""``vggspec check``: every mistake of the specs, in one run."""

import sys

import click

from vggspec.base.diagnostic import Report, VggspecError
from vggspec.base.source import Source
from vggspec.base.wording import count
from vggspec.compiler.lower import mistakes
from vggspec.lang.loading import net_name, pick, read_source, split_target
from vggspec.lang.parser import parse_leniently


@click.command(
    "check",
    epilog="""\b
Examples:
  vggspec check specs/*.vgg
  vggspec check specs/table1.vgg:D
  vggspec check --format github specs/*.vgg
  cat D.vgg | vggspec check -""",
)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    help="How reports are written: for people, for editors, for GitHub.  [default: text]",
)
def command(specs: tuple[str, ...], form: str) -> int:
    """Check specs: syntax, names, shapes, claims, recipes. Exit code 1 if anything is wrong."""
    from vggspec.base import render

    reports: list[Report] = []
    for target in specs:
        found, nets = reports_of(target)
        reports.extend(found)
        if form == "text" and not found:
            click.echo(f"{render.shown(target)}: {', '.join(nets)}")
    if form == "json":
        click.echo(render.as_json(reports))
    elif form == "github":
        if reports:
            click.echo(render.as_github(reports))
    elif reports:
        from vggspec.cli.terminal import use_color

        click.echo(render.as_text(reports, color=use_color(sys.stderr)), err=True)
        click.echo(f"\n{count(len(reports), 'mistake')}", err=True)
    return 1 if reports else 0


def reports_of(target: str) -> tuple[tuple[Report, ...], list[str]]:
    """The mistakes of one file or net, and the names of the nets in it."""
    path, net = split_target(target)
    try:
        return reports_in(read_source(path), net)
    except VggspecError as error:
        return error.reports, []


def reports_in(source: Source, net: str | None = None) -> tuple[tuple[Report, ...], list[str]]:
    """The same for a text; of a file with several nets, for one."""
    document, reports = parse_leniently(source)
    try:
        specs = document.specs if net is None else (pick(document, net),)
    except VggspecError as error:
        # A net that is not found is no news where the file could not be read whole.
        return reports.sorted() or error.reports, []
    mistakes(specs, reports)
    return reports.sorted(), [net_name(spec) for spec in specs]
