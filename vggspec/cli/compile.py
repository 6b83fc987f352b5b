"""``vggspec compile``: a net as an ONNX bundle, or as PyTorch source."""

import os
from typing import TYPE_CHECKING, Literal, cast

import click

from vggspec.catalogue import backends
from vggspec.diagnostic import VggspecError, report

if TYPE_CHECKING:
    from vggspec.compiler.lower import Lowered


@click.command(
    "compile",
    epilog="""\b
Examples:
  vggspec compile specs/D.vgg --weights D.safetensors -o D
  vggspec compile specs/digits.vgg --map
  vggspec compile specs/D.vgg --input raw --single-file -o D-raw
  vggspec compile specs/D.vgg --torch -o net.py""",
)
@click.argument("spec")
@click.option(
    "--weights",
    metavar="FILE",
    help="The weights.  [default: the best of the newest run under runs/<net>/, else "
    "<net>.safetensors beside the spec]",
)
@click.option(
    "-o",
    "--out",
    metavar="PATH",
    help="The bundle, a folder, or the source file.  [default: <net>, or <net>.py]",
)
@click.option("--torch", "to_torch", is_flag=True, help="Write PyTorch source instead of a bundle.")
@click.option(
    "--dense/--crop",
    "is_dense",
    default=None,
    help="Apply FC layers as convolutions, to images of any size, or keep them and one size.  "
    "[default: dense; with --torch: crop]",
)
@click.option(
    "--input",
    "contract",
    type=click.Choice(["float", "raw"]),
    default="float",
    help="What the graph takes: normalised float32 NCHW, or uint8 NHWC pixels as decoded.  "
    "[default: float]",
)
@click.option(
    "--average",
    type=click.Choice(["scores", "posteriors"]),
    help="What is averaged over space.  [default: as the spec's `test:` says, else scores]",
)
@click.option("--map", "keep_map", is_flag=True, help="Give the class score map too.")
@click.option("--single-file", is_flag=True, help="Embed the weights in the ONNX file.")
@click.option(
    "--copy-weights",
    is_flag=True,
    help="Give the bundle its own copy of the weights, where a hard link would do.",
)
def command(
    spec: str,
    weights: str | None,
    out: str | None,
    *,
    to_torch: bool,
    is_dense: bool | None,
    contract: str,
    average: str | None,
    keep_map: bool,
    single_file: bool,
    copy_weights: bool,
) -> None:
    """Compile a net: an ONNX bundle for dense evaluation, or PyTorch source.

    A bundle's graph points into the weights file and copies nothing. It takes images of any size
    from the net's window on and gives class posteriors, averaged over space.
    """
    from vggspec.compiler.lower import load_network

    lowered = load_network(spec)
    chosen = cast("Literal['scores', 'posteriors']", average or lowered.experiment.test.average)
    if to_torch:
        given = {
            "--weights": weights,
            "--input": contract != "float",
            "--single-file": single_file,
            "--copy-weights": copy_weights,
        }
        for option, is_given in given.items():
            if is_given:
                raise click.UsageError(
                    f"{option} does not go with --torch: the source loads any weights file"
                )
        path = out or f"{lowered.network.name}.py"
        form: Literal["dense", "crop"] = "dense" if is_dense else "crop"
        _write_source(lowered, spec, path, form, chosen, keep_map=keep_map)
        click.echo(path)
        return
    from vggspec.compiler.backends.onnx_model import OnnxOptions, write_bundle
    from vggspec.compiler.weights import open_weights
    from vggspec.train.runs import find_weights

    path = out or lowered.network.name
    found = weights or str(find_weights(lowered.network.name, lowered.spec.source.name))
    if weights is None:
        click.echo(f"weights: {found}", err=True)
    options = OnnxOptions(
        form="crop" if is_dense is False else "dense",
        average=chosen,
        contract=cast("Literal['float', 'raw']", contract),
        keep_map=keep_map,
        single_file=single_file,
        copy_weights=copy_weights,
    )
    file = open_weights(found)
    written = write_bundle(lowered, file, path, options)
    if written.mean_from == "ILSVRC":
        numbers = " ".join(f"{value:g}" for value in written.manifest.input.mean)
        click.echo(
            f"mean: neither the spec nor the weights say one, so that of ILSVRC: {numbers}",
            err=True,
        )
    if written.weights_by == "copy" and not copy_weights:
        click.echo("the weights were copied: they cannot be linked from there", err=True)
    click.echo(path)


def _write_source(
    lowered: "Lowered",
    spec: str,
    path: str,
    form: Literal["dense", "crop"],
    average: Literal["scores", "posteriors"],
    *,
    keep_map: bool,
) -> None:
    from vggspec.compiler.backends import torch_source
    from vggspec.compiler.passes import AverageOverSpace, FcToConv, run
    from vggspec.files import write_text

    if keep_map and form == "crop":
        what = backends.NoScoreMap(because="a crop has one position")
        raise VggspecError(report(what, path=spec))
    over_space = AverageOverSpace(average=average, keep_map=keep_map)
    # Dropout stays, so that the net can be trained further.
    pipeline = (over_space,) if form == "crop" else (FcToConv(), over_space)
    network = run(pipeline, lowered.network)
    write_text(path, torch_source.emit(network, network.input.mean, os.path.basename(spec)))
