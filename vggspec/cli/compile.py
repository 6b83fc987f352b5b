"""``vggspec compile``: a net as an ONNX bundle, a TensorRT engine, or PyTorch source."""

import os
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from vggspec.base.catalogue import backends
from vggspec.base.diagnostic import VggspecError, report
from vggspec.cli.engine_options import ONLY_WITH_TRT, WithEngineOptions, engine_options
from vggspec.cli.normalising import tell_input
from vggspec.cli.targets import check_spared, say_weights
from vggspec.cli.terminal import say_written

if TYPE_CHECKING:
    from vggspec.base.recipe import Average
    from vggspec.bundle.manifest import Precision
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.bundles.writer import Written
    from vggspec.compiler.lower import Lowered
    from vggspec.compiler.passes import Pass
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
  vggspec compile specs/D.vgg --stride 16 --map -o D-16
  vggspec compile specs/D.vgg --layer conv4_3 -o D-conv4_3
  vggspec compile specs/D.vgg --torch -o net.py
  vggspec compile specs/D.vgg specs/E.vgg --protocol -o D+E""",
)
@click.argument("specs", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--weights",
    "weights_files",
    multiple=True,
    metavar="FILE",
    help="The weights; with several specs once for each.  [default: the best of the newest run "
    "under runs/<net>/, else <net>.safetensors beside the spec or here]",
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
@click.option(
    "--stride",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="From one position of the score map to the next: 16 or 8 of the paper's nets, by dilation "
    "and without another pass.  [default: the net's own]",
)
@click.option(
    "--pool",
    type=click.Choice(["floor", "ceil"]),
    help="How pooling rounds: down, or up as Caffe does.  [default: as the spec says]",
)
@click.option(
    "--layer",
    metavar="NAME",
    help="Give the numbers of one layer, averaged over space, instead of the net's own output: "
    "conv4_3, fc7.",
)
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
@click.option(
    "--protocol",
    "holds_protocol",
    is_flag=True,
    help="Put the whole test protocol into the graph, which then takes a picture and the scales; "
    "several specs are fused.",
)
@click.option(
    "--flip/--no-flip",
    default=None,
    help="With --protocol: average with the mirror image.  [default: as the spec's `test:` says]",
)
@engine_options
def command(
    specs: tuple[str, ...],
    weights_files: tuple[str, ...],
    out: str | None,
    *,
    to_torch: bool,
    is_dense: bool | None,
    contract: str,
    average: str | None,
    keep_map: bool,
    stride: int | None,
    pool: Literal["floor", "ceil"] | None,
    layer: str | None,
    single_file: bool,
    copy_weights: bool,
    precision: str,
    keep_fp32: tuple[str, ...],
    holds_protocol: bool,
    flip: bool | None,
    to_trt: bool,
    **engine: Any,
) -> None:
    """Compile a net: an ONNX bundle for dense evaluation, a TensorRT engine, or PyTorch source.

    A bundle's graph points into the weights file and copies nothing. It takes images of any size
    from the net's window on and gives class posteriors, averaged over space. With --trt the bundle
    holds an engine for the sizes of its profiles. With --protocol the graph rescales, mirrors and
    averages too, and several nets are fused by averaging their posteriors.
    """
    from vggspec.compiler.lower import load_network

    if not to_trt:
        asked = click.get_current_context().get_parameter_source
        for name, option in ONLY_WITH_TRT.items():
            if asked(name) is click.core.ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{option} says how an engine is built: it wants --trt")
    if holds_protocol:
        from vggspec.cli.compile_protocol import check_options, compile_protocol

        check_options(
            {
                "--torch": to_torch,
                "--trt": to_trt,
                "--crop": is_dense is False,
                "--input": contract != "float",
                "--map": keep_map,
                "--layer": layer,
                "--single-file": single_file,
                "--precision": precision != "fp32",
                "--keep-fp32": keep_fp32,
            }
        )
        from vggspec.compiler.bundles.protocol import ProtocolOptions

        protocol = ProtocolOptions(
            average=cast("Average | None", average),
            flip=flip,
            is_dense=is_dense is True,
            pool=pool,
            stride=stride,
            copy_weights=copy_weights,
        )
        compile_protocol(specs, weights_files, out, protocol)
        return
    if len(specs) > 1 or len(weights_files) > 1:
        raise click.UsageError("several nets are compiled into one graph by --protocol alone")
    if flip is not None:
        raise click.UsageError("--flip says what a graph with --protocol does")
    (spec,), weights = specs, next(iter(weights_files), None)
    if layer is not None and average is not None:
        raise click.UsageError("--average is of class scores: it does not go with --layer")
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
        from vggspec.compiler.passes import inference

        path = out or f"{lowered.network.name}.py"
        form: Literal["dense", "crop"] = "dense" if is_dense else "crop"
        pipeline = inference(form, chosen, keep_map=keep_map, pool=pool, stride=stride, layer=layer)
        if keep_map and (form == "crop" or layer is not None):
            because = f"the output is that of `{layer}`" if layer else "a crop has one position"
            raise VggspecError(report(backends.NoScoreMap(because=because), path=spec))
        check_spared([path], [lowered.spec.source.name])
        _write_source(lowered, spec, path, pipeline)
        say_written(path)
        return
    from vggspec.compiler.backends.onnx.model import OnnxOptions
    from vggspec.compiler.bundles.writer import write_bundle
    from vggspec.compiler.weights import open_weights
    from vggspec.train.runs import find_weights

    if to_trt and single_file:
        raise click.UsageError("--single-file is for ONNX: a plan holds its weights anyway")
    options = OnnxOptions(
        form="crop" if is_dense is False else "dense",
        average=chosen,
        contract=cast("Literal['float', 'raw']", contract),
        keep_map=keep_map,
        pool=pool,
        stride=stride,
        layer=layer,
        precision=cast("Precision", precision),
        keep_fp32=keep_fp32,
        single_file=single_file,
        copy_weights=copy_weights,
    )
    path = out or lowered.network.name
    if to_trt:
        from vggspec.compiler.backends.tensorrt.build import choose_flavour
        from vggspec.runtime.machine import this_machine

        # Before the weights are looked for: without TensorRT they are of no use.
        choose_flavour(engine["trt_flavor"], this_machine())
    if weights is None:
        name, source = lowered.network.name, lowered.spec.source.name
        found = find_weights(name, source, option="--weights")
        say_weights(found)
        weights = str(found.path)
    file = open_weights(weights)
    if to_trt:
        written = _write_engine(lowered, file, path, options, engine)
    else:
        written = write_bundle(lowered, file, path, options)
    tell_input(written.manifest.input, written.mean_from, file.metadata)
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
    from vggspec.compiler.backends.onnx.model import prepare
    from vggspec.compiler.bundles.engine import check_profiles, write_engine_bundle
    from vggspec.runtime.tensorrt.seam import FLAVOURS

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


def _write_source(lowered: "Lowered", spec: str, path: str, pipeline: "tuple[Pass, ...]") -> None:
    from vggspec.base.files import write_text
    from vggspec.compiler.backends.torch import source as torch_source
    from vggspec.compiler.passes import AverageBeforeLinear, DropTrainingOps, run

    # Dropout stays, so that the net can be trained further, and keeps the average where it is.
    left_out = AverageBeforeLinear, DropTrainingOps
    network = run(tuple(p for p in pipeline if not isinstance(p, left_out)), lowered.network)
    write_text(path, torch_source.emit(network, network.input.mean, os.path.basename(spec)))
