"""``vggspec explain``: the page of an error code."""

import click

from vggspec.base.catalogue import by_code
from vggspec.base.wording import nearest


@click.command(
    "explain",
    epilog="""\b
Examples:
  vggspec explain VGG231
  vggspec explain --list""",
)
@click.argument("code", required=False)
@click.option("--list", "list_all", is_flag=True, help="List all codes.")
def command(code: str | None, *, list_all: bool) -> None:
    """Explain an error code: what it means, a wrong example, the right one."""
    catalogue = by_code()
    if list_all:
        for each, what in catalogue.items():
            click.echo(f"{each}  {what.summary()}")
        return
    if code is None:
        raise click.UsageError("name a code, such as VGG231, or give --list")
    wanted = f"VGG{code}" if code.isdecimal() else code.upper()
    found = catalogue.get(wanted)
    if found is None:
        like = nearest(wanted, tuple(catalogue))
        more = f" Did you mean {like}?" if like else ""
        raise click.UsageError(f"there is no code {code}.{more} `--list` lists all.")
    click.echo(f"{found.code}\n\n{found.page()}")
