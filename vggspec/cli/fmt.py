"""``vggspec fmt``: specs in canonical form."""

import difflib
import os
import sys

import click

from vggspec.base.catalogue.files import FormattedTooLarge
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.wording import count
from vggspec.lang.loading import MAX_BYTES, read_source


@click.command(
    "fmt",
    epilog="""\b
Examples:
  vggspec fmt specs/*.vgg
  vggspec fmt --check specs/*.vgg
  vggspec fmt --diff D.vgg
  vggspec fmt - < D.vgg""",
)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option("--check", is_flag=True, help="Name the files that would change; exit code 1 if any.")
@click.option("--diff", is_flag=True, help="Print what would change.")
def command(specs: tuple[str, ...], *, check: bool, diff: bool) -> int:
    """Format specs in place, or standard input for `-`.

    A file with mistakes of syntax is left as it is. --check and --diff write nothing.
    """
    reports: list[Report] = []
    changed = 0
    for path in specs:
        try:
            before, after = _formatted(path)
        except VggspecError as error:
            reports.extend(error.reports)
            continue
        changed += before != after
        if diff:
            _print_diff(path, before, after)
        elif check:
            if before != after:
                click.echo(path)
        elif path == "-":
            click.echo(after, nl=False)
        elif before != after:
            from vggspec.base.files import write_text

            # Through a link to the file itself: the link is replaced otherwise.
            write_text(os.path.realpath(path), after)
            click.echo(f"formatted {path}", err=True)
    if reports:
        from vggspec.base.render import as_text
        from vggspec.cli.terminal import use_color

        click.echo(as_text(reports, color=use_color(sys.stderr)), err=True)
        click.echo(f"\n{count(len(reports), 'mistake')}", err=True)
    return 1 if reports or (check and changed) else 0


def _formatted(path: str) -> tuple[str, str]:
    """The text of a file as it is and as it should be.

    Raises:
        VggspecError: it cannot be read or has mistakes of syntax.
    """
    from vggspec.compiler.ops import spell
    from vggspec.lang.formatter import format_document
    from vggspec.lang.parser import parse

    source = read_source(path)
    after = format_document(parse(source), spell)
    size = len(after.encode())
    if size > MAX_BYTES and after != source.text:
        raise VggspecError(report(FormattedTooLarge(found=size, limit=MAX_BYTES), path=path))
    return source.text, after


def _print_diff(path: str, before: str, after: str) -> None:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), path, path
    )
    for line in lines:
        click.echo(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n", nl=False
        )
