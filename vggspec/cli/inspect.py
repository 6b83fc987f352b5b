"""``vggspec inspect``: print what a bundle takes and returns, and what it contains."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vggspec.base.render import shown
from vggspec.base.wording import count

if TYPE_CHECKING:
    from vggspec.studies.inspection.inspection import Inspection
    from vggspec.studies.inspection.layers import LayerFacts

LONGEST_NAME = 24  # engines fuse layers and join their names
HEADINGS = ("layer", "op", "precision", "output", "reads")
DROPPABLE = ("reads", "op")


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
@click.option("--wide", is_flag=True, help="Print all columns and whole names.")
def command(bundle: str, *, as_json: bool, only_spec: bool, wide: bool) -> None:
    """Print what a bundle takes and returns, its profiles, files, engine and layers.

    The facts come from the manifest and the files beside it; an engine is never loaded.
    """
    if as_json and only_spec:
        raise click.UsageError("`--spec` and `--json` exclude each other.")
    from vggspec.bundle.manifest import open_bundle
    from vggspec.studies.inspection.inspection import inspect, specs_of

    if only_spec:  # also of a bundle whose list of layers is damaged
        for text in specs_of(open_bundle(bundle).manifest):
            click.echo(text, nl=not text.endswith("\n"))
        return
    found = inspect(bundle)
    if as_json:
        click.echo(json.dumps(found.as_data(), indent=2))
    else:
        print_inspection(found, wide=wide)


def print_inspection(found: "Inspection", *, wide: bool = False) -> None:
    """Print all of it in tables; ``wide`` keeps columns and names that the terminal cuts off."""
    from vggspec.cli.columns import with_text

    for number, section in enumerate(found.sections()):
        _heading(section.title, is_first=number == 0)
        indent = 2 if number else 0
        for lines in with_text(section.rows, right=section.right, indent=indent):
            click.echo("\n".join(lines))
    if found.layers:
        _heading(f"layers, from the {shown(found.layers_from)}")
        for line in _layer_lines(found.layers, wide=wide):
            click.echo(line)


def _heading(title: str, *, is_first: bool = False) -> None:
    from vggspec.cli.columns import wrapped
    from vggspec.cli.terminal import use_color

    if not is_first:
        click.echo()
    for line in wrapped(title):
        click.echo(click.style(line, bold=True) if use_color(sys.stdout) else line)
    if is_first:
        click.echo()


def _layer_lines(layers: "Sequence[LayerFacts]", *, wide: bool) -> Iterator[str]:
    from vggspec.cli.columns import fitting

    def cut(name: str) -> str:
        name = shown(name)
        is_whole = wide or len(name) <= LONGEST_NAME
        return name if is_whole else f"{name[: LONGEST_NAME - 1]}…"

    rows = [
        (
            cut(layer.name),
            cut(layer.op),
            shown(layer.precision),
            layer.output_in_words,
            cut(", ".join(layer.reads)),
        )
        for layer in layers
        if not layer.computes_shapes
    ]
    lines, note = fitting(HEADINGS, rows, DROPPABLE, indent=2, wide=wide)
    yield from lines
    if len(rows) < len(layers):
        yield f"  and {count(len(layers) - len(rows), 'layer')} of shapes"
    if note:
        yield f"\n{note}"
