"""``vggspec show``: the layers of a net and its cost."""

import json
import re
from collections import Counter

import click

from vggspec.base.catalogue import shapes
from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli import terminal
from vggspec.cli.completing import SPEC
from vggspec.cli.table import memory, print_table, print_text, scaled
from vggspec.cli.targets import check_spared, replaces
from vggspec.compiler.cost import LayerCost
from vggspec.compiler.geometry import Number, Pair, apart, whole
from vggspec.compiler.input_contract import in_words
from vggspec.compiler.ir import Output
from vggspec.compiler.listing import listing
from vggspec.compiler.ops.syntax import MAX_SIDE
from vggspec.compiler.results import is_plain
from vggspec.compiler.sizes import Fitting
from vggspec.compiler.summary import Summary, summarise

HEADINGS = ("layer", "written", "output", "parameters", "MACs", "activation", "field", "stride")
NUMBERS = range(2, 8)
OUTPUT_HEADINGS = ("output", "layer", "shape", "field", "stride")
OPTIONAL = (5, 7, 6, 3)  # left out in this order on a narrow terminal


@click.command(
    "show",
    epilog="""\b
Examples:
  vggspec show D
  vggspec show specs/table1.vgg:D --dense --at 384x512
  vggspec show specs/D.vgg --svg D.svg
  vggspec show resnet50-v1 --dot resnet50.dot
  vggspec show specs/D.vgg --json""",
)
@click.argument("spec", type=SPEC)
@click.option("--at", "size", metavar="HxW", help="The height and width of the input, in pixels.")
@click.option(
    "--dense", is_flag=True, help="Apply FC layers as convolutions, to images of any size."
)
@click.option(
    "--all", "show_all", is_flag=True, help="Show implied layers too: ReLU, dropout, flatten."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--svg", "figure", metavar="FILE", help="Write a figure of the net too.")
@click.option("--dot", "graph", metavar="FILE", help="Write the net as a Graphviz graph too.")
@terminal.wide_option
def command(
    spec: str,
    *,
    size: str | None,
    dense: bool,
    show_all: bool,
    as_json: bool,
    figure: str | None,
    graph: str | None,
) -> None:
    """Print the layers of a net with their shapes, parameters and cost.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D. `activation` is the memory of the output for one image in fp32. `field` and `stride`
    are the receptive field and the step of one output position, in pixels of the image. `[`, `+`
    or `&`, and `]` in `written` begin a bracket, its branches, and their sum or join. Outputs
    are listed where there are several, or one that is no vector of class scores.
    """
    found = summarise(spec, at=None if size is None else _size(size), dense=dense)
    for option, path in (("--svg", figure), ("--dot", graph)):
        if path is not None:
            check_spared([path], [found.path], option=option)
    if as_json:
        click.echo(json.dumps(found.as_data(implied=show_all), indent=2))
    else:
        print_summary(found, show_all=show_all)
    if figure is not None:
        from vggspec.compiler.figure import draw

        _write(figure, draw(found.network, found.outline))
    if graph is not None:
        from vggspec.compiler.dot import dot

        _write(graph, dot(found.network, found.outline))


def _write(path: str, text: str) -> None:
    from vggspec.base.files import write_text

    existed = replaces(path)
    write_text(path, text)
    terminal.say("", f"wrote {shown(path)}")
    if existed:
        terminal.say("note", f"{shown(path)} existed and was replaced")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*", text, re.IGNORECASE)
    if match is None or not all(1 <= int(side) <= MAX_SIDE for side in match.groups()):
        raise click.BadParameter(
            f"{text!r} is not a height and a width such as 384x512", param_hint="--at"
        )
    return int(match[1]), int(match[2])


def print_summary(found: Summary, *, show_all: bool = False) -> None:
    """Print the layers and the totals."""
    network, image = found.network, found.network.input
    title = f"{network.name}, input {image.height} × {image.width} {image.color}: {in_words(image)}"
    print_text(title, bold=True)
    click.echo()
    listed = found.layers(implied=show_all)
    written = listing(found.outline, {layer.name for layer, _ in listed}.__contains__)
    rows = [_row(written.get(layer.name, layer.op.write()), each) for layer, each in listed]
    print_table([HEADINGS, *rows], right=NUMBERS, optional=OPTIONAL)
    outputs = found.outputs()
    if len(outputs) > 1 or not is_plain(network):
        click.echo()
        rows = [_output_row(output, each) for output, each in outputs]
        print_table([OUTPUT_HEADINGS, *rows], right=range(2, 5), optional=(3,))
    click.echo()
    print_table(_totals(found), right=(1,), bold=())


def _row(written: str, each: LayerCost) -> tuple[str, ...]:
    return (
        each.name,
        written,
        shapes.chw(each.output).replace(" ", ""),
        f"{each.parameters:,}" if each.parameters else "",
        scaled(each.macs) if each.macs else "",
        memory(each.activation_bytes),
        _pair(each.receptive_field),
        _pair(each.stride),
    )


def _output_row(output: Output, each: LayerCost) -> tuple[str, ...]:
    return (
        output.name,
        each.name,
        shapes.chw(each.output).replace(" ", ""),
        _pair(each.receptive_field),
        _pair(each.stride),
    )


def _totals(found: Summary) -> list[tuple[str, str, str]]:
    costs, layers = found.cost, found.network.weight_layers
    kinds = Counter(layer.op.keyword for layer in layers)
    largest = costs.largest
    totals = [
        ("weight layers", str(len(layers)), ", ".join(f"{n} {kind}" for kind, n in kinds.items())),
        ("parameters", f"{costs.parameters:,}", ""),
        ("MACs", f"{costs.macs:,}", f"an image; {scaled(costs.flops, 'FLOPs')} = 2 × MACs"),
        ("weights", memory(costs.weight_bytes), ""),
        ("largest activation", memory(largest.activation_bytes), f"an image, {largest.name}"),
    ]
    fitting = found.fitting
    if isinstance(fitting, Fitting):
        words = [str(fitting.sizes)] if fitting.sizes != "any" else []
        words.append(f"at least {fitting.least[0]} × {fitting.least[1]}")
        if found.is_fixed:
            words.append("with --dense")
        totals.append(("sizes", "any" if fitting.sizes == "any" else "some", ", ".join(words)))
    elif fitting is not None:
        totals.append(("sizes", "its own", fitting.title()))
    distances = apart(found.network)
    if distances:
        each = [f"{name} by {_pixels(distance)}" for name, distance in distances.items()]
        totals.append(("unequal places", count(len(each), "join"), ", ".join(each)))
    if found.training_bytes is not None:
        kept = f"batches of {found.batch}, at least; {memory(costs.kept_bytes)} an image"
        totals.append(("training memory", memory(found.training_bytes), kept))
    return totals


def _pixels(number: Number) -> str:
    return "1 pixel" if number == 1 else f"{whole(number):g} pixels"


def _pair(sides: Pair) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} × {sides[1]}"
