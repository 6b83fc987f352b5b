"""``vggspec import``: convert a checkpoint of another tool to a weights file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, cast

import click

from vggspec.base.fields import short
from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.cli import progress, terminal
from vggspec.cli.completing import SPEC

if TYPE_CHECKING:
    from vggspec.compiler.importing.converting import Imported
    from vggspec.compiler.importing.layouts import Layout
    from vggspec.compiler.importing.matching import Part
    from vggspec.compiler.importing.sources import Name


@click.command(
    "import",
    epilog="""\b
Examples:
  vggspec import D vgg16.pth --check
  vggspec import VGG_ILSVRC_16_layers.caffemodel
  vggspec import D vgg16-caffe.pth --from caffe -o D.safetensors
  vggspec import vgg16-bn vgg16_bn.onnx
  vggspec import D vgg16.safetensors --only features
  vggspec import mine.vgg net.pth --labels classes.txt
  vggspec import net.vgg net.npz --map conv1_1=stem --layout hwio --from spec
  vggspec import net.onnx --write-spec net.vgg --from torchvision""",
)
@click.argument("files", type=SPEC, nargs=-1, required=True, metavar="[SPEC] CHECKPOINT")
@click.option(
    "-o", "--out", metavar="FILE", help="The file to write.  [default: <net>.safetensors]"
)
@click.option(
    "--write-spec",
    metavar="FILE",
    help="Write a spec too: that of the net in an ONNX model, which is run beside the spec's.",
)
@click.option(
    "--input",
    "given",
    metavar="TEXT",
    help="The input of that spec, such as `224x224 RGB(mean 127.5, std 127.5)`; the model may say"
    " the size.",
)
@click.option(
    "--from",
    "source",
    type=click.Choice(
        [
            "torchvision",
            "timm",
            "mmpretrain",
            "keras",
            "caffe",
            "tf-slim",
            "matconvnet",
            "spec",
        ]
    ),
    help="The collection of the weights, which decides how images were normalised; `spec`: as in"
    " the spec.  [default: inferred from the names of the layers]",
)
@click.option("--bgr", is_flag=True, help="The first layer takes BGR, as in Caffe and Keras.")
@click.option(
    "--layout",
    type=click.Choice(["oihw", "ohwi", "hwio"]),
    help="The axes of the kernels: oihw in PyTorch and Caffe, ohwi in MLX, hwio in Keras and"
    " TensorFlow.  [default: inferred from the shapes]",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="OURS=THEIRS",
    help="A layer of the spec and the layer of the checkpoint whose weights it takes; may be"
    " repeated.",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="NAME",
    help="A layer, or group of layers, of the checkpoint that the net does not have; may be"
    " repeated.",
)
@click.option(
    "--key",
    metavar="NAME",
    help="The table of the checkpoint to take, if it contains several, such as `model_ema`.",
)
@click.option(
    "--only",
    type=click.Choice(["features"]),
    help="Import the layers before the first FC layer alone, such as for `start from`.",
)
@click.option(
    "--labels",
    metavar="FILE",
    help="A file with the names of the classes, one a line; `none`: no names.  [default: those of"
    " the checkpoint, or ImageNet's for 1000 classes of a known collection]",
)
@click.option(
    "--check",
    is_flag=True,
    help="Run torchvision's or timm's own net beside ours, and refuse weights whose scores differ.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Print details: the tensor that each layer takes."
)
def command(
    files: tuple[str, ...],
    out: str | None,
    *,
    write_spec: str | None,
    given: str | None,
    source: str | None,
    bgr: bool,
    layout: str | None,
    pairs: tuple[str, ...],
    ignored: tuple[str, ...],
    key: str | None,
    only: str | None,
    labels: str | None,
    check: bool,
    verbose: bool,
) -> None:
    """Convert a checkpoint of another tool to a weights file.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D. Without it, the one of that list is taken whose layers have the
    shapes of the checkpoint's; with --write-spec one is written for an
    ONNX model.

    Reads files of PyTorch, TorchScript, ONNX, safetensors, npz, Keras, Caffe
    and MatConvNet; no code of a file is run. Layers are matched by the shapes
    of their weights, and layers of one shape by the order in the file and by
    their names. An ambiguous match is an error. The weights file records how
    the input is normalised. A file that exists is replaced, with a note.
    """
    from vggspec.compiler.importing.converting import ImportOptions, import_weights

    if len(files) > 2:
        raise click.UsageError(f"takes a spec and a checkpoint, and got {len(files)} arguments")
    spec = files[0] if len(files) == 2 else None
    options = ImportOptions(
        source=cast("Name | Literal['spec'] | None", source),
        bgr=bgr,
        layout=cast("Layout | None", layout),
        pairs=_read_pairs(pairs),
        ignored=ignored,
        key=key,
        only=cast("Part | None", only),
        labels=labels,
        input=given,
        check=check,
    )
    with progress.shown() as watch:
        found = import_weights(
            spec, files[-1], out=out, write_spec=write_spec, options=options, watch=watch
        )
    for text in _in_words(found, is_whole=verbose):
        terminal.say("", text)
    if write_spec is not None:
        terminal.say_written(found.spec)
    terminal.say_written(found.path)


def _read_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        ours, mark, theirs = pair.partition("=")
        if not (ours and mark and theirs):
            raise click.BadParameter(
                f"{pair!r} is not a pair such as conv1_1=features.0", param_hint="--map"
            )
        if ours in found:
            raise click.BadParameter(f"`{ours}` is given twice", param_hint="--map")
        found[ours] = theirs
    return found


def _in_words(found: "Imported", *, is_whole: bool) -> Iterator[str]:
    """The source of each layer's weights, what was inferred, and what was compared."""
    from vggspec.compiler.importing.layouts import IN_WORDS
    from vggspec.compiler.input_contract import in_words

    matched, expected = found.matched, found.expected
    pairs = [shown(pair.in_words()) for pair in matched.pairs]
    left_out = len(pairs) - 2
    if left_out > 1 and not is_whole:
        pairs = [pairs[0], f"… {left_out} more; -v prints them", pairs[-1]]
    yield from pairs
    layers = count(len(matched.pairs), "layer")
    yield f"{layers} with {matched.num_parameters:,} parameters, in the shapes of the spec"
    if matched.unused:
        names = ", ".join(map(_shown, matched.unused if is_whole else matched.unused[:3]))
        more = "" if is_whole or len(matched.unused) <= 3 else ", …"
        yield f"not used: {count(len(matched.unused), 'tensor')}, {names}{more}"
    if matched.by_place:
        names = ", ".join(matched.by_place if is_whole else matched.by_place[:4])
        more = "" if is_whole or len(matched.by_place) <= 4 else ", …"
        yield f"branches matched by the order in the file only: {names}{more}"
        yield "  `--map` says otherwise"
    if matched.layout != "oihw" or matched.is_layout_guessed:
        guessed = " by its names; `--layout` says otherwise" if matched.is_layout_guessed else ""
        yield f"layout: {matched.layout} ({IN_WORDS[matched.layout]}){guessed}"
        for pair in matched.pairs:
            if pair.is_flattened and matched.layout != "oihw":
                name = pair.slot.layer.name
                yield f"  {name}: its input was in the order rows, columns, channels"
    yield f"input: {in_words(expected.input, with_color=True)}"
    if expected.source != "spec":
        whose = f"  as {expected.source} normalises it"
        by = expected.guessed_by
        yield whose + (f", by {by}; `--from` says otherwise" if by else "")
    if expected.is_turned:
        yield f"  the first layer was turned to {expected.input.color}"
    if found.compared is not None:
        peer, error = found.compared.peer, found.compared.error
        height, width = found.compared.size
        images = count(found.compared.images, "image")
        yield (
            f"check: {peer} gives the same scores, within {error:.1g} of the largest, for {images}"
            f"\n  of noise, {height} × {width}"
        )
    norms = [pair.module for pair in matched.pairs if pair.module.is_norm]
    if not found.is_epsilon_known and any(norm.is_of_tensorflow for norm in norms):
        yield (
            "note: TensorFlow's batch normalisation adds 0.001 to the variance where PyTorch's adds"
            "\n  0.00001; if the net kept that, write `BN(eps 1e-3)` in the spec"
        )


def _shown(name: str) -> str:
    return shown(short(name))
