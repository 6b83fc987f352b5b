"""``vggspec specs``: the specs that come with vggspec."""

import json

import click

from vggspec.cli import terminal
from vggspec.cli.completing import complete_packaged
from vggspec.cli.table import print_table
from vggspec.compiler.cost import cost
from vggspec.compiler.summary import PackagedSpec, packaged_specs
from vggspec.lang.loading import read_packaged

HEADINGS = ("name", "layers", "parameters", "net")


@click.command(
    "specs",
    epilog="""\b
Examples:
  vggspec specs
  vggspec specs D > mine.vgg
  vggspec show table1:D""",
)
@click.argument("name", required=False, shell_complete=complete_packaged)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@terminal.wide_option
def command(name: str | None, *, as_json: bool) -> None:
    """List the specs that come with vggspec, or print the text of one.

    All commands and `like` take the names. A file in the working folder has precedence: `D`
    means `D` or `D.vgg` there, if one exists. `layers` counts conv and FC layers.
    """
    if name is not None:
        click.echo(read_packaged(name).text, nl=False)
    elif as_json:
        click.echo(json.dumps([spec.as_data() for spec in packaged_specs()], indent=2))
    else:
        print_table([HEADINGS, *map(_row, packaged_specs())], right=(1, 2))


def _row(spec: PackagedSpec) -> tuple[str, ...]:
    if len(spec.nets) > 1:
        return spec.name, f"{len(spec.nets)} nets", "", spec.title
    (network,) = spec.nets
    return spec.name, str(len(network.weight_layers)), f"{cost(network).parameters:,}", spec.title
