"""``vggspec explain``: the page of an error code."""

import click

from vggspec.base.catalogue import by_code, explain
from vggspec.base.wording import reflowed
from vggspec.cli import terminal
from vggspec.cli.table import print_table


@click.command(
    "explain",
    epilog="""\b
Examples:
  vggspec explain VGG231
  vggspec explain --list""",
)
@click.argument("code", required=False)
@click.option("--list", "list_all", is_flag=True, help="List all codes.")
@terminal.wide_option
def command(code: str | None, *, list_all: bool) -> None:
    """Explain an error code: its meaning, a wrong example and the right one."""
    if list_all:
        rows = [(each, what.summary()) for each, what in by_code().items()]
        print_table(rows, bold=())
        return
    if code is None:
        raise click.UsageError("name a code, such as VGG231, or give --list")
    try:
        page = explain(code)
    except LookupError as error:
        raise click.UsageError(f"{error.args[0]} `--list` lists all.") from error
    for line in reflowed(page, terminal.table_width()):
        click.echo(line)
