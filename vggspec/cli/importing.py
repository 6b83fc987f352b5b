"""``vggspec import``: a checkpoint of another tool as a weights file."""

from pathlib import Path

import click

from vggspec.catalogue import artefacts
from vggspec.cli.targets import check_spared
from vggspec.diagnostic import VggspecError, report
from vggspec.source import reason


@click.command(
    "import",
    epilog="""\b
Examples:
  vggspec import specs/vgg16-bn.vgg vgg16_bn.pth
  vggspec import specs/D.vgg vgg16-caffe.pth --bgr -o D.safetensors
  vggspec import specs/D.vgg vgg16.safetensors --labels classes.txt""",
)
@click.argument("spec")
@click.argument("checkpoint")
@click.option(
    "-o", "--out", metavar="FILE", help="The file to write.  [default: <net>.safetensors]"
)
@click.option(
    "--bgr",
    is_flag=True,
    help="The checkpoint's first layer takes BGR, as Caffe's do, and the spec's input is RGB.",
)
@click.option("--labels", metavar="FILE", help="The names of the classes, one a line.")
def command(spec: str, checkpoint: str, out: str | None, *, bgr: bool, labels: str | None) -> None:
    """Turn a checkpoint of another tool into a weights file.

    Reads PyTorch files (tensors alone, no code is run), safetensors and npz. Layers are matched by
    their order and checked by their shapes, so the names of torchvision, timm, mmpretrain and
    others all do.
    """
    from vggspec.compiler import importers
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.weights import contradicts_itself, describe, save

    lowered = load_network(spec)
    network = lowered.network
    path = out or f"{network.name}.safetensors"
    check_spared([path], [lowered.spec.source.name, checkpoint, labels])
    if bgr and network.input.color != "RGB":
        raise click.UsageError(f"--bgr turns a first layer to RGB; {spec} is {network.input.color}")
    names = None if labels is None else _read_labels(labels, network.num_classes)
    tensors = importers.read_checkpoint(checkpoint)
    if contradicts_itself(checkpoint):
        click.echo(
            "note: the numbers were changed after the file was written: they are not those whose\n"
            "  SHA-256 it states; they are taken as they are",
            err=True,
        )
    arrays = importers.match(network, tensors, checkpoint)
    if bgr:
        importers.swap_red_and_blue(network, arrays)
    save(path, arrays, describe(network, mean=network.input.mean, labels=names))
    if importers.is_like_torchvision(tensors) and network.input.std is None:
        click.echo(
            "note: torchvision's nets expect inputs divided by a std; their spec's input is\n"
            "  input 224x224 RGB(mean 123.675 116.28 103.53, std 58.395 57.12 57.375)",
            err=True,
        )
    click.echo(path)


def _read_labels(path: str, classes: int) -> tuple[str, ...]:
    try:
        labels = tuple(Path(path).read_text("utf-8").splitlines())
    except (OSError, ValueError) as error:
        what = artefacts.NoSuchFile(kind="file of labels", reason=reason(error))
        raise VggspecError(report(what, path=path)) from error
    if len(labels) != classes:
        what_bad = artefacts.UnknownCheckpoint(
            reason=f"there are {len(labels)} labels for {classes} classes"
        )
        raise VggspecError(report(what_bad, path=path))
    return labels
