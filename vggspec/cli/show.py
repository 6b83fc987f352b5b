"""``vggspec show``: what a net consists of and what it costs."""

import json
import re
import sys
from collections import Counter

import click

from vggspec.base.catalogue import shapes
from vggspec.cli.table import aligned, memory, scaled
from vggspec.cli.targets import check_spared
from vggspec.compiler.cost import Cost, LayerCost, cost
from vggspec.compiler.input_contract import in_words
from vggspec.compiler.ir import Layer, Network
from vggspec.compiler.lower import load_network
from vggspec.compiler.ops.syntax import MAX_SIDE

HEADINGS = ("layer", "written", "output", "parameters", "MACs", "activation", "field", "stride")
NUMBERS = range(2, 8)


@click.command(
    "show",
    epilog="""\b
Examples:
  vggspec show specs/D.vgg
  vggspec show specs/table1.vgg:D --dense --at 384x512
  vggspec show specs/D.vgg --svg D.svg
  vggspec show specs/D.vgg --json""",
)
@click.argument("spec")
@click.option("--at", "size", metavar="HxW", help="Count for an input of this height and width.")
@click.option("--dense", is_flag=True, help="FC layers as convolutions, for images of any size.")
@click.option("--all", "show_all", is_flag=True, help="Implied layers too: ReLU, dropout, flatten.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--svg", "figure", metavar="FILE", help="Write a figure of the net as well.")
def command(
    spec: str, *, size: str | None, dense: bool, show_all: bool, as_json: bool, figure: str | None
) -> None:
    """Print a net's layers, shapes, parameters and cost. SPEC is a file, or file:NET.

    Field and stride are the receptive field and the step of one output position, in pixels of
    the image. Activations and memory are those of 32-bit floats.
    """
    at = None if size is None else _size(size)
    lowered = load_network(spec)
    if figure is not None:
        check_spared([figure], [lowered.spec.source.name], option="--svg")
    network = lowered.network
    if dense:
        from vggspec.compiler.passes.fc_to_conv import FcToConv

        network = FcToConv()(network)
    if at is not None:
        network = network.at(*at)
    costs = cost(network)
    shown = [
        (layer, each)
        for layer, each in zip(network.layers, costs.layers, strict=True)
        if show_all or not layer.op.is_implied
    ]
    if as_json:
        click.echo(json.dumps(_as_dict(network, costs, shown), indent=2))
    else:
        # A net is trained on crops of its own size; of other sizes only the rest is of interest.
        is_trained = network is lowered.network
        _print(network, costs, shown, lowered.experiment.train.batch if is_trained else None)
    if figure is not None:
        from vggspec.base.files import write_text
        from vggspec.compiler.figure import draw

        write_text(figure, draw(network))
        click.echo(f"wrote {figure}", err=True)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*", text, re.IGNORECASE)
    if match is None or not all(1 <= int(side) <= MAX_SIDE for side in match.groups()):
        raise click.BadParameter(
            f"{text!r} is not a height and a width such as 384x512", param_hint="--at"
        )
    return int(match[1]), int(match[2])


def _print(
    network: Network, costs: Cost, shown: list[tuple[Layer, LayerCost]], batch: int | None
) -> None:
    from vggspec.cli.terminal import use_color

    image = network.input
    rows = [HEADINGS, *(_row(layer, each) for layer, each in shown)]
    head, *body = aligned(rows, right=NUMBERS)
    bold = use_color(sys.stdout)
    title = f"{network.name}, input {image.height} × {image.width} {image.color}: {in_words(image)}"
    click.echo(click.style(title, bold=True) if bold else title)
    click.echo()
    click.echo(click.style(head, bold=True) if bold else head)
    for line in body:
        click.echo(line)
    click.echo()
    for line in aligned(_totals(network, costs, batch), right=(1,)):
        click.echo(line)


def _row(layer: Layer, each: LayerCost) -> tuple[str, ...]:
    return (
        each.name,
        layer.op.write(),
        shapes.chw(each.output),
        f"{each.parameters:,}" if each.parameters else "",
        scaled(each.macs) if each.macs else "",
        memory(each.activation_bytes),
        _pair(each.receptive_field),
        _pair(each.stride),
    )


def _totals(network: Network, costs: Cost, batch: int | None) -> list[tuple[str, str, str]]:
    kinds = Counter(layer.op.keyword for layer in network.weight_layers)
    largest = costs.largest
    totals = [
        (
            "weight layers",
            str(len(network.weight_layers)),
            ", ".join(f"{number} {kind}" for kind, number in kinds.items()),
        ),
        ("parameters", f"{costs.parameters:,}", ""),
        ("MACs", f"{costs.macs:,}", f"an image; {scaled(costs.flops, 'FLOPs')} = 2 × MACs"),
        ("weights", memory(costs.weight_bytes), ""),
        ("largest activation", memory(largest.activation_bytes), f"an image, {largest.name}"),
    ]
    if batch is not None:
        kept = f"at least, for batches of {batch}; {memory(costs.kept_bytes)} an image"
        totals.append(("training memory", memory(costs.training_bytes(batch)), kept))
    return totals


def _pair(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} × {sides[1]}"


def _as_dict(
    network: Network, costs: Cost, shown: list[tuple[Layer, LayerCost]]
) -> dict[str, object]:
    return {
        "name": network.name,
        "input": list(network.input.type.shape),
        "weight_layers": len(network.weight_layers),
        "parameters": costs.parameters,
        "macs": costs.macs,
        "layers": [
            {
                "name": each.name,
                "op": each.op,
                "output": list(each.output),
                "parameters": each.parameters,
                "macs": each.macs,
                "receptive_field": _square(each.receptive_field),
                "stride": _square(each.stride),
            }
            for _, each in shown
        ],
    }


def _square(sides: tuple[int, int]) -> int | list[int]:
    return sides[0] if sides[0] == sides[1] else list(sides)
