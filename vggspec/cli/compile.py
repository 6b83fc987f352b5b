"""``vggspec compile``: a net as an ONNX bundle, a TensorRT engine, or PyTorch source."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from vggspec.base.diagnostic import ArgumentError
from vggspec.base.render import shown
from vggspec.base.wording import all_of
from vggspec.bundle.options import CompileOptions, EngineOptions
from vggspec.cli.building import tell_weights
from vggspec.cli.compile_flags import Sectioned, all_options, given
from vggspec.cli.completing import SPEC
from vggspec.cli.normalising import tell_input
from vggspec.cli.targets import check_spared, replaces, say_weights
from vggspec.cli.terminal import say, say_written, tell

if TYPE_CHECKING:
    from vggspec.bundle.manifest import Manifest
    from vggspec.compiler.compiling import Compiled

#: Options that PyTorch source has; it loads any weights file of the net.
WITH_TORCH = {"form", "average", "keep_map", "pool", "stride", "layer", "flip", "protocol"}


@click.command(
    "compile",
    cls=Sectioned,
    epilog="""\b
Examples:
  vggspec compile specs/D.vgg --weights D.safetensors -o D
  vggspec compile specs/digits.vgg --map
  vggspec compile specs/D.vgg --input raw --single-file -o D-raw
  vggspec compile specs/D.vgg --precision int8 --calibrate DIR -o D-int8
  vggspec compile specs/D.vgg --trt --precision fp16 -o D-fp16
  vggspec compile specs/D.vgg --trt --profile 1x224x224,2x256x341,8x256x512
  vggspec compile specs/D.vgg --stride 16 --map -o D-16
  vggspec compile specs/D.vgg --layer conv4_3 -o D-conv4_3
  vggspec compile specs/D.vgg --torch -o net.py
  vggspec compile specs/D.vgg --torch --dense --scores -o net.py
  vggspec compile specs/D.vgg specs/E.vgg --protocol -o D+E
  vggspec compile lpips --distance --factors lpips/weights/v0.1/vgg.pth""",
)
@click.argument("specs", type=SPEC, nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--weights",
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
    "--scores",
    is_flag=True,
    help="With --torch: output class scores, without the soft-max, as CrossEntropyLoss takes them.",
)
@all_options
def command(
    specs: tuple[str, ...],
    weights: tuple[str, ...],
    out: str | None,
    *,
    to_torch: bool,
    scores: bool,
    to_trt: bool,
    verbose: int,
    **_: Any,
) -> None:
    """Compile a net: an ONNX bundle for dense evaluation, a TensorRT engine, or PyTorch source.

    SPEC is a file such as D.vgg, a net of a file, table1.vgg:D, or a name that `vggspec specs`
    lists: D.

    A bundle's graph points into the weights file beside it, a copy of yours. It takes images of any
    size from the net's window on and outputs class posteriors, averaged over space. With --trt the
    bundle contains an engine for the sizes of its profiles. With --protocol the graph rescales,
    mirrors and averages too, and several nets are fused by averaging their posteriors. With
    --distance it compares two pictures of any size, for `vggspec distance`.
    """
    ctx = click.get_current_context()
    choices = given(ctx, CompileOptions) | given(ctx, EngineOptions)
    if scores and not to_torch:
        raise click.UsageError("--scores says what PyTorch source outputs: it requires --torch")
    _check(choices, specs, weights, to_torch=to_torch, to_trt=to_trt)
    from vggspec.compiler.lower import load_network

    lowered = [load_network(spec) for spec in specs]
    name = "+".join(each.network.name for each in lowered)
    if to_torch:
        from vggspec.compiler.exporting import export

        path = out or f"{name}.py"
        check_spared([path], [lowered[0].spec.source.name])
        existed = replaces(path)
        export(specs[0], path, scores=scores, **choices)
        say_written(path)
        if existed:
            say("note", f"{shown(path)} existed and was replaced")
        return
    from vggspec.cli import progress
    from vggspec.cli.building import WithLog, show_cost
    from vggspec.compiler.compiling import compile_lowered
    from vggspec.training.runs import find_weights

    if to_trt:
        from vggspec.compiler.backends.tensorrt.flavours import choose_flavour
        from vggspec.runtime.machine import this_machine

        # Before weights are looked for: without TensorRT they are of no use.
        choose_flavour(choices.get("flavour"), this_machine())
    files = list(weights)
    for each in () if weights else lowered:
        found = find_weights(each.network.name, each.spec.source.name, option="--weights")
        say_weights(found)
        files.append(str(found.path))
    with progress.shown() as watch:
        compiled = compile_lowered(
            lowered,
            weights=files,
            out=out or name,
            trt=to_trt,
            planned=show_cost,
            watch=WithLog(watch, verbose),
            **choices,
        )
    _tell(compiled)
    click.echo(out or name)


def _check(
    choices: Mapping[str, Any],
    specs: tuple[str, ...],
    weights: tuple[str, ...],
    *,
    to_torch: bool,
    to_trt: bool,
) -> None:
    """Refuse options that contradict each other, before anything is read.

    Raises:
        click.UsageError: two options contradict each other.
    """
    from vggspec.compiler.compiling import choose, contradiction, flag_name

    # Profiles are read with the net, whose channels they may name.
    checked = {**choices, "profiles": ()} if "profiles" in choices else choices
    try:
        options = choose(None, checked, trt=to_trt)
    except ArgumentError as error:
        raise click.UsageError(str(error)) from error
    for flag, is_given in (("--protocol", options.protocol), ("--distance", options.distance)):
        if to_torch and is_given:
            raise click.UsageError(f"--torch cannot be used with {flag}: it is an ONNX graph")
    if to_torch:
        refused = {"--weights": bool(weights), "--trt": to_trt}
        refused |= {flag_name(name): True for name in choices if name not in WITH_TORCH}
        for option, is_given in refused.items():
            if is_given:
                raise click.UsageError(
                    f"{option} cannot be used with --torch: the source loads any weights file"
                )
    wrong = contradiction(options, nets=len(specs), weights=len(weights) or None)
    if wrong is not None:
        raise click.UsageError(wrong)


def _tell_int8(manifest: "Manifest") -> None:
    from vggspec.cli.table import memory

    made = manifest.calibration
    assert made is not None
    size = next(e.bytes for e in manifest.files if e.path == manifest.model)
    kept = all_of(manifest.fp32_layers)
    tell(
        f"int8, calibrated with {made.images} images at {made.scale} pixels: {memory(size)}"
        + (f"; {kept} in fp32" if kept else "")
    )
    tell(made.in_words())


def _tell(compiled: "Compiled") -> None:
    """Print on standard error notes about the bundle, and the accuracy of one in int8."""
    from vggspec.cli.table import memory
    from vggspec.runtime.tensorrt.library import FLAVOURS

    manifest, written = compiled.manifest, compiled.bundle
    for note in written.notes:
        say("", note)
    engine = manifest.engine
    if engine is not None:
        size = next(e.bytes for e in manifest.files if e.path == manifest.model)
        later = " and later" if engine.is_open_ended else ""
        say(
            "",
            f"{FLAVOURS[engine.flavour].title} {engine.version}, {manifest.precision}, for compute "
            f"capability {', '.join(engine.capabilities)}{later}: {memory(size)} in "
            f"{compiled.seconds:.1f} s",
        )
    inputs = [(member.name, member.input) for member in manifest.members]
    inputs = inputs or [(manifest.net, manifest.input)]
    for (name, image), mean_from, metadata in zip(
        inputs, written.mean_from, compiled.weights, strict=True
    ):
        tell_input(image, mean_from, metadata, name if len(inputs) > 1 else None)
    tell_weights(written.weights, is_link=manifest.options.link_weights)
    if manifest.calibration is not None:
        _tell_int8(manifest)
