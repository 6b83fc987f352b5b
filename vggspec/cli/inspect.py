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
  vggspec inspect D --spec > D.vgg
  vggspec inspect D --markdown --run runs/D/2026-03-01-1 > README.md""",
)
@click.argument("bundle")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--spec", "only_spec", is_flag=True, help="Print the spec it was compiled from.")
@click.option("--markdown", "as_card", is_flag=True, help="Print a model card in Markdown.")
@click.option(
    "--run",
    metavar="DIR",
    help="With --markdown: the training run that the weights come from, whose data and results the "
    "card states.",
)
@click.option(
    "--licence",
    "--license",
    metavar="ID",
    help="With --markdown: the licence of the weights, such as apache-2.0.",
)
@wide_option
def command(
    bundle: str,
    *,
    as_json: bool,
    only_spec: bool,
    as_card: bool,
    run: str | None,
    licence: str | None,
) -> None:
    """Print what a bundle takes and returns, its profiles, files, engine and layers.

    The facts come from the manifest and the files beside it; an engine is never loaded.
    """
    if as_json + only_spec + as_card > 1:
        raise click.UsageError("`--spec`, `--json` and `--markdown` exclude each other.")
    if not as_card and (run, licence) != (None, None):
        raise click.UsageError("`--run` and `--licence` are for `--markdown`.")
    from vggspec.bundle.opening import open_bundle
    from vggspec.studies.inspection.inspection import inspect, specs_of

    if only_spec:  # also of a bundle whose list of layers is damaged
        for text in specs_of(open_bundle(bundle).manifest):
            click.echo(text, nl=not text.endswith("\n"))
        return
    if as_card:
        from vggspec.studies.inspection.card import card

        click.echo(card(bundle, run=run, licence=licence), nl=False)
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
