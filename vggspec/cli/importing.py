"""``vggspec import``: a checkpoint of another tool as a weights file."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import click

from vggspec.base.catalogue import artefacts
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import short
from vggspec.base.opening import read_file
from vggspec.base.render import shown
from vggspec.base.wording import count, either, reason
from vggspec.cli.targets import check_spared
from vggspec.cli.terminal import say_written

if TYPE_CHECKING:
    from vggspec.compiler.importing.checkpoint import Checkpoint
    from vggspec.compiler.importing.layouts import Layout
    from vggspec.compiler.importing.matching import Matched
    from vggspec.compiler.importing.sources import Expected

MAX_LABELS_BYTES = 16 << 20


@click.command(
    "import",
    epilog="""\b
Examples:
  vggspec import specs/D.vgg vgg16.pth
  vggspec import specs/D.vgg vgg16-caffe.pth --from caffe -o D.safetensors
  vggspec import specs/D.vgg vgg16.safetensors --labels classes.txt
  vggspec import net.vgg net.npz --map conv1_1=stem --layout hwio --from spec""",
)
@click.argument("spec")
@click.argument("checkpoint")
@click.option(
    "-o", "--out", metavar="FILE", help="The file to write.  [default: <net>.safetensors]"
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["torchvision", "timm", "mmpretrain", "keras", "caffe", "tf-slim", "spec"]),
    help="Whose weights they are, which says how their images were normalised; `spec`: as the"
    " spec's input says.  [default: whose the names of the layers are]",
)
@click.option(
    "--bgr", is_flag=True, help="The checkpoint's first layer takes BGR, as Caffe's and Keras's do."
)
@click.option(
    "--layout",
    type=click.Choice(["oihw", "ohwi", "hwio"]),
    help="The axes of the kernels: oihw in PyTorch and Caffe, ohwi in MLX, hwio in Keras and"
    " TensorFlow.  [default: as the shapes say]",
)
@click.option(
    "--map",
    "pairs",
    multiple=True,
    metavar="OURS=THEIRS",
    help="A layer of the spec and the one of the checkpoint whose weights it takes; may be"
    " repeated.",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="NAME",
    help="A layer, or group of layers, that is no part of the net; may be repeated.",
)
@click.option(
    "--key",
    metavar="NAME",
    help="The table of the checkpoint to take, where it holds several: `model_ema`, for instance.",
)
@click.option("--labels", metavar="FILE", help="The names of the classes, one a line.")
@click.option("-v", "--verbose", is_flag=True, help="Print each layer with what it takes.")
def command(
    spec: str,
    checkpoint: str,
    out: str | None,
    *,
    source: str | None,
    bgr: bool,
    layout: str | None,
    pairs: tuple[str, ...],
    ignored: tuple[str, ...],
    key: str | None,
    labels: str | None,
    verbose: bool,
) -> None:
    """Turn a checkpoint of another tool into a weights file.

    Reads PyTorch files (tensors alone, no code is run), safetensors and npz. Layers are told apart
    by the shapes of their weights, equal ones by the order of the file and of their names; what
    stays unclear is refused. How the net's input is normalised goes into the weights file.
    """
    from vggspec.compiler.importing.checkpoint import read_checkpoint
    from vggspec.compiler.importing.matching import Told, match
    from vggspec.compiler.importing.sources import (
        expectation,
        own_metadata,
        turn_first_layer,
    )
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import changed_part, describe, expecting, save

    lowered = load_network(spec)
    network = lowered.network
    path = out or f"{network.name}.safetensors"
    check_spared([path], [lowered.spec.source.name, checkpoint, labels])
    color = network.input.color
    if color == "gray" and (bgr or source not in (None, "spec")):
        raise click.UsageError(f"--bgr and --from are of nets that see colours; {spec} is gray")
    if bgr and color == "BGR":
        raise click.UsageError(f"--bgr turns a first layer to RGB; {spec} is BGR")
    told = Told(
        layout=cast("Layout | None", layout), pairs=_read_pairs(pairs), ignored=tuple(ignored)
    )
    names = None if labels is None else _read_labels(labels, network.num_classes)
    read = read_checkpoint(checkpoint, key)
    _say_what_was_taken(read)
    changed = changed_part(checkpoint)
    if changed is not None:
        parts = "numbers were" if changed == "numbers" else "header was"
        click.echo(
            f"note: the {parts} changed after the file was written: the SHA-256 is not the one\n"
            "  that the file states; it is taken as it is",
            err=True,
        )
    matched = match(network, read, told)
    wanted = expectation(network.input, matched, read, source, is_bgr=bgr)
    if wanted.is_turned:
        turn_first_layer(matched, checkpoint)
    if names is None:
        own = own_metadata(read).labels
        names = own if own is not None and len(own) == network.num_classes else None
    described = describe(network, labels=names)
    save(path, matched.arrays, expecting(described, wanted.input, wanted.source))
    for text in _in_words(matched, wanted, is_whole=verbose):
        click.echo(text, err=True)
    say_written(path)


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


def _in_words(matched: "Matched", wanted: "Expected", *, is_whole: bool) -> Iterator[str]:
    """What was taken from where, and what was guessed."""
    from vggspec.compiler.importing.layouts import IN_WORDS
    from vggspec.compiler.input_contract import in_words

    pairs = [shown(pair.in_words()) for pair in matched.pairs]
    left_out = len(pairs) - 2
    if left_out > 1 and not is_whole:
        pairs = [pairs[0], f"… {left_out} more; -v prints them", pairs[-1]]
    yield from pairs
    if matched.unused:
        names = ", ".join(map(_shown, matched.unused if is_whole else matched.unused[:3]))
        more = "" if is_whole or len(matched.unused) <= 3 else ", …"
        yield f"not used: {count(len(matched.unused), 'tensor')}, {names}{more}"
    if matched.layout != "oihw" or matched.is_layout_guessed:
        guessed = " by its names; `--layout` says otherwise" if matched.is_layout_guessed else ""
        yield f"layout: {matched.layout} ({IN_WORDS[matched.layout]}){guessed}"
        for pair in matched.pairs:
            if pair.is_flattened and matched.layout != "oihw":
                name = pair.slot.layer.name
                yield f"  {name}: its input was in the order rows, columns, channels"
    yield f"input: {in_words(wanted.input, with_color=True)}"
    if wanted.source != "spec":
        whose = f"  as {wanted.source} normalises it"
        yield whose + (", by the layers' names; `--from` says otherwise" * wanted.is_guessed)
    if wanted.is_turned:
        yield f"  the first layer was turned to {wanted.input.color}"
    if any(pair.module.is_norm and pair.module.is_of_tensorflow for pair in matched.pairs):
        yield (
            "note: TensorFlow's batch normalisation adds 0.001 to the variance where PyTorch's adds"
            "\n  0.00001; if the net kept that, write `BN(eps 1e-3)` in the spec"
        )


def _say_what_was_taken(read: "Checkpoint") -> None:
    from vggspec.compiler.importing.tables import is_average

    averages = [name for name in read.others if is_average(name)]
    taken = f"the table `{_shown(read.key)}`" if read.key else "the outermost table"
    if averages and not is_average(read.key or ""):
        more = f"`--key {_shown(averages[0])}` takes that one"
        click.echo(f"note: took {taken}, not the moving average; {more}", err=True)
    elif read.others:
        keys = either([f"`--key {_shown(name)}`" for name in read.others[:6]])
        click.echo(f"note: took {taken}; another by {keys}", err=True)
    if read.skipped:
        names = ", ".join(f"`{_shown(name)}`" for name in read.skipped[:4])
        tensors = count(len(read.skipped), "tensor")
        end = ", …" if len(read.skipped) > 4 else ""
        click.echo(
            f"note: left out {tensors} without floating point numbers: {names}{end}", err=True
        )


def _shown(name: str) -> str:
    return shown(short(name))


def _read_labels(path: str, classes: int) -> tuple[str, ...]:
    try:
        labels = tuple(read_file(path, MAX_LABELS_BYTES).decode().splitlines())
    except (OSError, ValueError) as error:
        what = artefacts.NoSuchFile(kind="file of labels", reason=reason(error))
        raise VggspecError(report(what, path=path)) from error
    if len(labels) != classes:
        what_bad = artefacts.UnknownCheckpoint(
            reason=f"there are {len(labels)} labels for {classes} classes"
        )
        raise VggspecError(report(what_bad, path=path))
    return labels
