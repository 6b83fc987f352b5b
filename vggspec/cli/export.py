"""``vggspec export``: weights in the names and layouts of another collection."""

from typing import TYPE_CHECKING, cast

import click

from vggspec.cli import progress, terminal
from vggspec.cli.completing import SPEC

if TYPE_CHECKING:
    from vggspec.compiler.importing.collection_names import Collection


@click.command(
    "export",
    epilog="""\b
Examples:
  vggspec export D D.safetensors --to torchvision
  vggspec export D D.safetensors --to keras -o vgg16.weights.h5
  vggspec export resnet:ResNet-50 best.safetensors --to timm -o r.safetensors""",
)
@click.argument("spec", type=SPEC)
@click.argument("weights")
@click.option(
    "--to",
    "collection",
    type=click.Choice(["torchvision", "timm", "keras"]),
    required=True,
    help="The collection whose model is to load the weights.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help="The file to write: .pth or .safetensors, of Keras .weights.h5 or .h5.  [default:"
    " <net>.pth or <net>.weights.h5]",
)
@click.option(
    "--keep-input",
    is_flag=True,
    help="Write the weights as they are where the collection normalises images otherwise.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print details: the name of each layer there.")
def command(
    spec: str, weights: str, *, collection: str, out: str | None, keep_input: bool, verbose: bool
) -> None:
    """Write weights as a model of torchvision, timm or Keras loads them.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D.

    The numbers stay the same: `vggspec import` gives them back to the bit. A net that the
    collection does not have is an error, and so is one that expects its images normalised
    otherwise. A file that exists is replaced, with a note.
    """
    from vggspec.compiler.exporting_weights import export_weights
    from vggspec.compiler.input_contract import in_words

    with progress.shown() as watch:
        found = export_weights(
            spec,
            weights,
            to=cast("Collection", collection),
            out=out,
            keep_input=keep_input,
            watch=watch,
        )
    pairs = [f"{layer} → {name}" for layer, name in found.names.items()]
    if len(pairs) > 3 and not verbose:
        pairs = [pairs[0], f"… {len(pairs) - 2} more; -v prints them", pairs[-1]]
    for pair in pairs:
        terminal.say("", pair)
    terminal.say("", f"input: {in_words(found.input, with_color=True)}")
    if found.is_turned:
        terminal.say("", f"  the first layer was turned to {found.input.color}")
    terminal.say_written(found.path)
