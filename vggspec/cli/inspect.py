"""``vggspec inspect``: print what a bundle takes and returns, and what it contains."""

import json
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli.table import print_table
from vggspec.cli.terminal import table_width, wide_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggspec.studies.inspection.inspection import Inspection
    from vggspec.studies.inspection.layers import LayerFacts

LONGEST_NAME = 24  # engines fuse layers and join their names
HEADINGS = ("", "layer", "op", "precision", "output", "reads")  # indented by an empty column
OPTIONAL = (HEADINGS.index("reads"), HEADINGS.index("op"))


@click.command(
    "inspect",
    epilog="""\b
Examples:
  vggspec inspect D
  vggspec inspect D --json
  vggspec inspect D --spec > D.vgg""",
)
@click.argument("bundle")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--spec", "only_spec", is_flag=True, help="Print the spec it was compiled from.")
@wide_option
def command(bundle: str, *, as_json: bool, only_spec: bool) -> None:
    """Print what a bundle takes and returns, its profiles, files, engine and layers.

    The facts come from the manifest and the files beside it; an engine is never loaded.
    """
    if as_json and only_spec:
        raise click.UsageError("`--spec` and `--json` exclude each other.")
    from vggspec.bundle.opening import open_bundle
    from vggspec.studies.inspection.inspection import inspect, specs_of

    if only_spec:  # also of a bundle whose list of layers is damaged
        for text in specs_of(open_bundle(bundle).manifest):
            click.echo(text, nl=not text.endswith("\n"))
        return
    found = inspect(bundle)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_inspection(found)


def print_inspection(found: "Inspection") -> None:
    """Print all of it in tables."""
    for number, section in enumerate(found.sections()):
        _print_title(section.title, is_first=number == 0)
        rows = section.rows if number == 0 else [("", *row) for row in section.rows]
        shift = 0 if number == 0 else 1
        print_table(rows, right=[column + shift for column in section.right], bold=())
    if found.layers:
        _print_title(f"layers, from the {shown(found.layers_from)}")
        _print_layers(found.layers)


def _print_title(title: str, *, is_first: bool = False) -> None:
    if not is_first:
        click.echo()
    print_table([(title,)])
    if is_first:
        click.echo()


def _print_layers(layers: "Sequence[LayerFacts]") -> None:
    is_wide = table_width() is None

    def cut(name: str) -> str:
        name = shown(name)
        is_whole = is_wide or len(name) <= LONGEST_NAME
        return name if is_whole else f"{name[: LONGEST_NAME - 1]}…"

    rows = [
        (
            "",
            cut(layer.name),
            cut(layer.op),
            shown(layer.precision),
            layer.output_in_words,
            cut(", ".join(layer.reads)),
        )
        for layer in layers
        if not layer.computes_shapes
    ]
    print_table([HEADINGS, *rows], optional=OPTIONAL, bold=())
    if len(rows) < len(layers):
        click.echo(f"  and {count(len(layers) - len(rows), 'layer')} of shapes")
