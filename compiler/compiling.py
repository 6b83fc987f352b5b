"""``vggspec.compile``: a net as a bundle, whatever its model: a graph, an engine, a protocol."""

import functools
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vggspec.base.arguments import StrPath, one_or_several
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.fields import BadFieldError, parse_object, read
from vggspec.base.short_repr import short_repr
from vggspec.base.watcher import SILENT, Watcher
from vggspec.base.wording import nearest
from vggspec.bundle.options import NO_LAYER, CompileOptions, EngineOptions, flag_of
from vggspec.bundle.profile import parse_profile

if TYPE_CHECKING:
    from vggspec.bundle.manifest import Manifest
    from vggspec.compiler.bundling.engine import ProfileCost
    from vggspec.compiler.bundling.staging import WrittenBundle
    from vggspec.compiler.lower import Lowered
    from vggspec.compiler.weights import Metadata

Function = TypeVar("Function", bound="Callable[..., Compiled]")

GRAPH = {one.name: one for one in fields(CompileOptions) if one.name != "engine"}
ENGINE = {one.name: one for one in fields(EngineOptions)}

#: Options of a calibration.
WITH_INT8 = ("calibrate", "calibration_images", "max_drop")

#: Options that cannot be used with ``--precision int8``, and why.
WITHOUT_INT8 = {
    "layer": "the accuracy of a net is measured by its classes",
}
WITHOUT_INT8_ENGINE = {
    "refittable": "the scales of the weights are part of the plan",
    "strip_weights": "the scales of the weights are part of the plan",
}

#: Options that cannot be used with ``--protocol``, and why.
WITHOUT_PROTOCOL = {
    "contract": "its graph takes pictures as they are decoded",
    "keep_map": "its graph only outputs posteriors",
    "layer": "its graph only outputs posteriors",
    "precision": "its graph computes in fp32",
    "keep_fp32": "its graph computes in fp32",
    "calibrate": "its graph computes in fp32",
    "calibration_images": "its graph computes in fp32",
    "max_drop": "its graph computes in fp32",
}

#: Options that cannot be used with ``--distance``, and why.
WITHOUT_DISTANCE = {
    "protocol": "its graph compares pictures as they are",
    "average": "it averages the distances of all positions",
    "keep_map": "its graph only outputs a distance",
    "stride": "it compares the maps that the spec names",
    "layer": "name layers in the spec, as in `outputs conv1_2 conv2_2`",
}
WITHOUT_DISTANCE_ENGINE = {
    "refittable": "the factors of the channels are part of the plan",
    "strip_weights": "the factors of the channels are part of the plan",
}


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled(os.PathLike[str]):
    """A compiled bundle, which is accepted wherever a path is."""

    path: Path
    bundle: "WrittenBundle"
    weights: "tuple[Metadata, ...]"
    """What the weights files say about themselves."""

    seconds: float

    @property
    def manifest(self) -> "Manifest":
        """Everything that is known about the bundle."""
        return self.bundle.manifest

    def __fspath__(self) -> str:
        return str(self.path)


def _with_options(function: Function) -> Function:
    """Give a function the signature that its ``choices`` have: every field of the options."""
    own = [
        one
        for one in inspect.signature(function).parameters.values()
        if one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    more = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type
        )
        for name, one in (GRAPH | ENGINE).items()
    ]
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*own, *more], return_annotation=Compiled
    )
    return function


@_with_options
def compile(  # noqa: A001 (the command's name)
    spec: StrPath | Sequence[StrPath],
    *,
    weights: StrPath | Sequence[StrPath],
    out: StrPath,
    options: CompileOptions | None = None,
    trt: bool = False,
    planned: "Callable[[Sequence[ProfileCost]], None]" = lambda _: None,
    watch: Watcher = SILENT,
    **choices: Any,
) -> Compiled:
    """Write a bundle, as ``vggspec compile`` does; a bundle at ``out`` is replaced.

    ``options`` says what the bundle computes and how. Each of its fields can be given as a keyword
    instead, and so can the fields of ``EngineOptions``:
    ``compile("D.vgg", weights="D.safetensors", out="D", stride=16, keep_map=True)``. With ``trt``
    the bundle contains a TensorRT engine; ``profiles`` may then be written as ``--profile`` takes
    them, ``"1x256x256,2x256x341,8x256x512"``. With ``protocol`` the graph contains the whole test
    protocol, and several specs, each with its weights, are fused by averaging posteriors. With
    ``distance`` it takes two pictures and gives their distance, as ``perceptual`` defines it, in
    the activations that the spec's ``outputs`` line names.

    With ``precision="int8"`` the images of the folder ``calibrate`` calibrate the net, and others
    of them measure its accuracy, which may fall by ``max_drop`` points.

    ``planned`` is called with the cost of each profile before an engine is built. ``watch``
    receives the progress of calibration and build, and TensorRT's messages, from its threads.

    Raises:
        TypeError: a keyword is not an option.
        ArgumentError: an option is invalid, or contradicts another one.
        VggspecError: the spec has mistakes, the weights are another net's, the bundle cannot be
            written, TensorRT refuses the net, or an int8 net is less accurate than allowed.
        MissingLibraryError: TensorRT is not installed.
    """
    from vggspec.compiler.lower import load_network

    lowered = [load_network(os.fspath(each)) for each in one_or_several("spec", spec, least=1)]
    return compile_lowered(
        lowered,
        weights=weights,
        out=out,
        options=options,
        trt=trt,
        planned=planned,
        watch=watch,
        **choices,
    )


def compile_lowered(
    lowered: "Sequence[Lowered]",
    *,
    weights: StrPath | Sequence[StrPath],
    out: StrPath,
    options: CompileOptions | None = None,
    trt: bool = False,
    planned: "Callable[[Sequence[ProfileCost]], None]" = lambda _: None,
    watch: Watcher = SILENT,
    **choices: Any,
) -> Compiled:
    """As ``compile``, for specs that have been read."""
    from vggspec.compiler.weights import open_weights

    began = time.monotonic()
    paths = one_or_several("weights", weights)
    channels = lowered[0].network.input.channels
    chosen = choose(options, choices, trt=trt, channels=channels)
    wrong = contradiction(chosen, nets=len(lowered), weights=len(paths))
    if wrong is not None:
        raise ArgumentError(wrong)
    if chosen.engine is not None:
        chosen = replace(chosen, engine=_for_this_machine(chosen))
    files = [open_weights(path) for path in paths]
    if chosen.protocol:
        from vggspec.compiler.bundling.protocol import write_protocol_bundle

        written = write_protocol_bundle(list(zip(lowered, files, strict=True)), out, chosen)
    elif chosen.engine is not None:
        from vggspec.compiler.bundling.engine import write_engine_bundle

        written = write_engine_bundle(lowered[0], files[0], out, chosen, watch, planned)
    else:
        from vggspec.compiler.bundling.graph import write_bundle

        written = write_bundle(lowered[0], files[0], out, chosen, watch=watch)
    return Compiled(
        path=Path(out),
        bundle=written,
        weights=tuple(file.metadata for file in files),
        seconds=time.monotonic() - began,
    )


def choose(
    options: CompileOptions | None,
    choices: Mapping[str, Any],
    *,
    trt: bool = False,
    channels: int = 3,
) -> CompileOptions:
    """The options with the fields in ``choices``, an engine's among them where one is built.

    Raises:
        TypeError: a name is not an option.
        ArgumentError: an engine's option is given and no engine is built, or a value is malformed.
        VggspecError: a profile is malformed.
    """
    for name in choices.keys() - GRAPH.keys() - ENGINE.keys():
        like = nearest(name, tuple(GRAPH | ENGINE))
        more = f"; did you mean `{like}`?" if like else ""
        raise TypeError(f"compile() has no option `{name}`{more}")
    options = options or CompileOptions()
    of_graph = {name: _frozen(name, v) for name, v in choices.items() if name in GRAPH}
    of_engine = {name: _frozen(name, v) for name, v in choices.items() if name in ENGINE}
    options = replace(options, **of_graph)
    if not trt and options.engine is None:
        for name in of_engine:
            message = f"{flag_name(name)} says how an engine is built: it requires --trt"
            raise ArgumentError(message)
        return _checked(options)
    if "profiles" in of_engine:
        of_engine["profiles"] = tuple(
            parse_profile(one, channels) if isinstance(one, str) else one
            for one in dict.fromkeys(of_engine["profiles"])
        )
    if "capabilities" in of_engine:
        of_engine["capabilities"] = tuple(dict.fromkeys(of_engine["capabilities"]))
    engine = replace(options.engine or EngineOptions(), **of_engine)
    return _checked(replace(options, engine=engine))


def _checked(options: CompileOptions) -> CompileOptions:
    """The options, if a manifest with them could be read again.

    Raises:
        ArgumentError: a value has another type or is out of its bounds.
    """
    try:
        text = json.dumps(asdict(options))
        read(CompileOptions, parse_object(text.encode(), has_paths=True))
    except (BadFieldError, TypeError) as error:
        message = f"an option of the compilation is malformed: {error}"
        raise ArgumentError(message) from error
    return options


def contradiction(
    options: CompileOptions, *, nets: int = 1, weights: int | None = None
) -> str | None:
    """The first two options that contradict each other, in words that name the flags."""
    if options.distance:
        if not options.is_dense:
            return "--crop cannot be used with --distance: its graph takes pictures of any size"
        wrong = _beside(options, "--distance", WITHOUT_DISTANCE)
        if wrong is not None:
            return wrong
        for name, why in WITHOUT_DISTANCE_ENGINE.items():
            if options.engine is not None and getattr(options.engine, name) != ENGINE[name].default:
                return f"{flag_name(name)} cannot be used with --distance: {why}"
    elif options.factors is not None:
        return "--factors says what a graph with --distance multiplies by"
    if options.protocol:
        if options.engine is not None:
            return (
                "--trt cannot be used with --protocol: TensorRT does not support the rescaling "
                "in its graph"
            )
        if not options.is_dense:
            return "--crop cannot be used with --protocol: its graph applies nets densely"
        wrong = _beside(options, "--protocol", WITHOUT_PROTOCOL)
        if wrong is not None:
            return wrong
        if weights is not None and weights != nets:
            return (
                f"give --weights once for each spec, in their order: {nets} specs, {weights} "
                "weights files"
            )
        return None
    if nets > 1 or (weights or 1) > 1:
        return "several nets are compiled into one graph only with --protocol"
    if options.flip is not None:
        return "--flip says what a graph with --protocol does"
    if options.layer is not None and options.average is not None:
        return "--average applies to class scores: it cannot be used with --layer"
    if options.engine is not None and options.single_file:
        return "--single-file is for ONNX: a plan contains its weights anyway"
    if NO_LAYER in options.keep_fp32 and len(options.keep_fp32) > 1:
        return "--keep-fp32 none cannot be used with layers: it says that there are none"
    if options.precision == "bf16" and options.engine is None and options.keep_fp32:
        return (
            "--keep-fp32 cannot be used with --precision bf16 without --trt: the runtime decides "
            "which layers of the graph it computes in bf16"
        )
    return _int8_contradiction(options)


def _int8_contradiction(options: CompileOptions) -> str | None:
    if options.precision != "int8":
        for name in WITH_INT8:
            if getattr(options, name) != GRAPH[name].default:
                return (
                    f"{flag_name(name)} says how a net is quantised: it requires --precision int8"
                )
        return None
    if options.calibrate is None:
        return "--precision int8 requires --calibrate DIR: images that calibrate the net"
    for name, why in WITHOUT_INT8.items():
        if getattr(options, name) != GRAPH[name].default:
            return f"{flag_name(name)} cannot be used with --precision int8: {why}"
    for name, why in WITHOUT_INT8_ENGINE.items():
        if options.engine is not None and getattr(options.engine, name) != ENGINE[name].default:
            return f"{flag_name(name)} cannot be used with --precision int8: {why}"
    return None


def _beside(options: CompileOptions, flag: str, reasons: Mapping[str, str]) -> str | None:
    """Which of the options cannot be used with ``flag``, the first of those in ``reasons``."""
    for name, why in reasons.items():
        if getattr(options, name) != GRAPH[name].default:
            return f"{flag_name(name)} cannot be used with {flag}: {why}"
    return None


def _for_this_machine(options: CompileOptions) -> EngineOptions:
    """The engine's options with the flavour that builds it here.

    Raises:
        VggspecError: it cannot be built here.
        MissingLibraryError: no TensorRT is installed.
    """
    from vggspec.compiler.backends.tensorrt.flavours import check_options, choose_flavour
    from vggspec.runtime.machine import this_machine

    assert options.engine is not None
    machine = this_machine()
    engine = replace(options.engine, flavour=choose_flavour(options.engine.flavour, machine))
    check_options(engine, machine, {options.precision})
    return engine


def _frozen(name: str, value: Any) -> Any:
    """The value of an option as the options have it; a text may stand for a list of one."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str) and (GRAPH | ENGINE)[name].default == ():
        return (value,)
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def flag_name(name: str) -> str:
    """The flag of an option, of two the first."""
    flag = flag_of((GRAPH | ENGINE)[name])
    assert flag is not None
    return flag.name.partition("/")[0]
