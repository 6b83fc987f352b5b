"""``vggspec compile``: a net as an ONNX bundle, a TensorRT engine, or PyTorch source."""

import os
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from vggspec.catalogue import backends
from vggspec.cli.engine_options import ONLY_WITH_TRT, WithEngineOptions, engine_options
from vggspec.diagnostic import VggspecError, report

if TYPE_CHECKING:
    from vggspec.bundle import Precision
    from vggspec.compiler.backends.bundle_writer import Written
    from vggspec.compiler.backends.onnx_model import OnnxOptions
    from vggspec.compiler.lower import Lowered
    from vggspec.compiler.weights import WeightsFile


@click.command(
    "compile",
    cls=WithEngineOptions,
    epilog="""\b
Examples:
  vggspec compile specs/D.vgg --weights D.safetensors -o D
  vggspec compile specs/digits.vgg --map
  vggspec compile specs/D.vgg --input raw --single-file -o D-raw
  vggspec compile specs/D.vgg --trt --precision fp16 -o D-fp16
  vggspec compile specs/D.vgg --trt --profile 1x224x224,2x256x341,8x256x512
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
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    help="Number type of the arithmetic; averages and soft-max stay in fp32.  [default: fp32]",
)
@click.option(
    "--keep-fp32",
    multiple=True,
    metavar="LAYER",
    help="A layer that computes in fp32 whatever the precision is; may be repeated.",
)
@engine_options
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
    precision: str,
    keep_fp32: tuple[str, ...],
    to_trt: bool,
    **engine: Any,
) -> None:
    """Compile a net: an ONNX bundle for dense evaluation, a TensorRT engine, or PyTorch source.

    A bundle's graph points into the weights file and copies nothing. It takes images of any size
    from the net's window on and gives class posteriors, averaged over space. With --trt the bundle
    holds an engine for the sizes of its profiles.
    """
    from vggspec.compiler.lower import load_network

    if not to_trt:
        asked = click.get_current_context().get_parameter_source
        for name, option in ONLY_WITH_TRT.items():
            if asked(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{option} says how an engine is built: it wants --trt")
    lowered = load_network(spec)
    chosen = cast("Literal['scores', 'posteriors']", average or lowered.experiment.test.average)
    if to_torch:
        given = {
            "--weights": weights,
            "--input": contract != "float",
            "--single-file": single_file,
            "--copy-weights": copy_weights,
            "--precision": precision != "fp32",
            "--keep-fp32": keep_fp32,
            "--trt": to_trt,
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
    from vggspec.compiler.backends.bundle_writer import write_bundle
    from vggspec.compiler.backends.onnx_model import OnnxOptions
    from vggspec.compiler.weights import open_weights
    from vggspec.train.runs import find_weights

    if to_trt and single_file:
        raise click.UsageError("--single-file is for ONNX: a plan holds its weights anyway")
    options = OnnxOptions(
        form="crop" if is_dense is False else "dense",
        average=chosen,
        contract=cast("Literal['float', 'raw']", contract),
        keep_map=keep_map,
        precision=cast("Precision", precision),
        keep_fp32=keep_fp32,
        single_file=single_file,
        copy_weights=copy_weights,
    )
    path = out or lowered.network.name
    if to_trt:
        from vggspec.compiler.backends.tensorrt_engine import choose_flavour
        from vggspec.machine import this_machine

        # Before the weights are looked for: without TensorRT they are of no use.
        choose_flavour(engine["trt_flavor"], this_machine())
    found = weights or str(find_weights(lowered.network.name, lowered.spec.source.name))
    if weights is None:
        click.echo(f"weights: {found}", err=True)
    file = open_weights(found)
    if to_trt:
        written = _write_engine(lowered, file, path, options, engine)
    else:
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


def _write_engine(
    lowered: "Lowered",
    weights: "WeightsFile",
    path: str,
    options: "OnnxOptions",
    given: dict[str, Any],
) -> "Written":
    from vggspec.cli.engine_options import BuildDisplay, read_engine_options, show_cost
    from vggspec.cli.table import memory
    from vggspec.compiler.backends.engine_bundle import check_profiles, write_engine_bundle
    from vggspec.compiler.backends.onnx_model import prepare
    from vggspec.trt import FLAVOURS

    engine_options = read_engine_options(lowered, options, given)
    network = prepare(lowered.network, options)
    check_profiles(network, options, engine_options)
    show_cost(network, options, engine_options.profiles)
    with BuildDisplay(given["verbose"]) as display:
        written = write_engine_bundle(lowered, weights, path, options, engine_options, display)
    for note in written.notes:
        click.echo(note, err=True)
    engine = written.manifest.engine
    assert engine is not None
    size = next(e.bytes for e in written.manifest.files if e.path == written.manifest.model)
    later = " and later" if engine.is_open_ended else ""
    click.echo(
        f"{FLAVOURS[engine.flavour].title} {engine.version}, {options.precision}, for compute "
        f"capability {', '.join(engine.capabilities)}{later}: {memory(size)} in "
        f"{display.seconds:.1f} s",
        err=True,
    )
    return written


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
