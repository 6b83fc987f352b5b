"""The manifest of a compiled net: the inputs, outputs and options of a bundle."""

import hashlib
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor, lcm

import onnx

from vggspec.base.version import __version__
from vggspec.bundle.manifest import FIRST, InputContract, Manifest, OutputContract, Position
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.distance import DISTANCE
from vggspec.compiler.backends.onnx.graph import OPSET
from vggspec.compiler.backends.onnx.model import pipeline, prepare
from vggspec.compiler.geometry import Number, Pair, fields
from vggspec.compiler.input_contract import known_mean
from vggspec.compiler.ir import IMAGE, POSTERIOR_MAP, SCORE_MAP, ImageInput, Network, Output
from vggspec.compiler.lower import Lowered
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.passes import AverageBeforeLinear, run
from vggspec.compiler.passes.average_over_space import AVERAGE
from vggspec.compiler.passes.keep_up_to import needed_for
from vggspec.compiler.results import kind_of, result_of
from vggspec.compiler.sizes import Fitting, sizes
from vggspec.compiler.weights import WeightsFile


def describe(
    lowered: Lowered, network: Network, weights: WeightsFile, options: CompileOptions
) -> Manifest:
    """The manifest of a net, prepared as ``network``, without files, engine and members."""
    image = network.input
    outputs = tuple(_output(lowered.network, network, out, options) for out in network.outputs)
    if options.distance:
        outputs = (OutputContract(name=DISTANCE, kind="distance", channels=1),)
    window, stride = window_and_stride(lowered.network, options)
    fitting = sizes_of(lowered.network, options)
    return Manifest(
        net=network.name,
        spec_text=lowered.text,
        spec_sha256=hashlib.sha256(lowered.text.encode()).hexdigest(),
        options=_effective(lowered, network, options),
        input=InputContract(
            contract=options.contract,
            color=image.color,
            mean=known_mean(image),
            std=image.std,
            scale=image.scale,
            size=fitting.least,
            is_dynamic=options.is_dense,
            name=FIRST if options.distance else IMAGE,
            sizes=fitting.sizes,
        ),
        outputs=outputs,
        window=window,
        stride=stride,
        labels=labels_of(weights, outputs[0]),
        test=lowered.experiment.test,
        tools={"vggspec": __version__, "onnx": onnx.__version__, "opset": str(OPSET)},
        files=(),
    )


def _output(
    written: Network, prepared: Network, output: Output, options: CompileOptions
) -> OutputContract:
    kind, type_ = kind_of(written, output), prepared.type_of(output.layer)
    return OutputContract(
        name=output.name,
        kind=kind,
        channels=type_.channels,
        is_map=type_.is_map,
        size=type_.size if type_.is_map and not options.is_dense else None,
        position=position_of(written, prepared, output),
    )


def position_of(written: Network, prepared: Network, output: Output) -> Position | None:
    """Where the positions of a map of activations or of posteriors lie; None for other outputs."""
    kind, type_ = kind_of(written, output), prepared.type_of(output.layer)
    is_label_map = kind == POSTERIOR_MAP
    has_own = kind == "activations" and type_.is_map and not _sees_all(prepared, output.layer)
    if not is_label_map and not has_own:
        return None
    seen = prepared.once(fields)[output.layer]
    rows, columns = seen.place
    # Where a map has become finer, not all positions see as much: the window holds them all.
    top, left = floor(seen.start[0]), floor(seen.start[1])
    bottom, right = ceil(seen.end[0]), ceil(seen.end[1])
    return Position(
        start=(top, left),
        window=(bottom - top + 1, right - left + 1),
        stride=_pixels(seen.stride),
        place=(float(rows), float(columns)) if is_label_map else None,
    )


def _sees_all(network: Network, name: str) -> bool:
    """Whether a tensor depends on a mean of a whole map: it has no window of its own."""
    layers = needed_for(network, [network[name]])
    return any(isinstance(layer.op, GlobalAvgPool) for layer in layers)


def _effective(lowered: Lowered, network: Network, options: CompileOptions) -> CompileOptions:
    """The options without those that change nothing, so that equal bundles have equal manifests.

    The timing cache is left out too, and so are the factors and the folder of images that
    calibrated: they are paths of the machine that wrote the bundle, and the factors are in it.
    """

    def is_same(others: CompileOptions) -> bool:
        return prepare(lowered.network, others) == network

    kept = tuple(layer.name for layer in network.layers if layer.name in options.keep_fp32)
    engine = options.engine
    if engine is not None:
        engine = replace(engine, timing_cache=None, timing_cache_mode="record")
    # Where an option is not given there is nothing to compare.
    has_pool = options.pool is not None and not is_same(replace(options, pool=None))
    has_stride = options.stride is not None and not is_same(replace(options, stride=None))
    return replace(
        options,
        pool=options.pool if has_pool else None,
        stride=options.stride if has_stride else None,
        keep_fp32=() if options.precision == "fp32" else kept,
        factors=None,
        calibrate=None,
        engine=engine,
    )


def input_of(contract: InputContract, lowered: Lowered) -> ImageInput:
    """The input of a net as a bundle takes it."""
    image = lowered.network.input
    return replace(image, mean=contract.mean, std=contract.std, scale=contract.scale)


def labels_of(weights: WeightsFile, result: OutputContract) -> tuple[str, ...] | None:
    """The labels that came with the weights, where they name the numbers of the output."""
    labels = weights.metadata.labels
    is_classed = result.kind not in ("features", "activations", "distance")
    return labels if is_classed and labels and result.is_of(len(labels)) else None


def sizes_of(network: Network, options: CompileOptions) -> Fitting:
    """The sizes of images that a net takes; ``network`` is as the spec has it.

    Raises:
        VggspecError: it takes none but its own, and is to be applied densely.
    """
    if not options.is_dense:
        return Fitting(least=network.input.type.size, sizes="any")
    # An average that moves takes joins along: what it averages must meet all the same.
    passes = [
        each for each in pipeline(network, options) if not isinstance(each, AverageBeforeLinear)
    ]
    return sizes(run(tuple(passes), network))


def window_and_stride(
    network: Network, options: CompileOptions
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What one position of the score map sees of the image, and how far it is to the next one.

    ``network`` is as the spec has it. What a position sees is what it sees in the net's own form:
    where pooling rounds up, a finer map has positions past it. Activations of several layers, and a
    distance in them, have several strides: the largest is given, with the net's whole input. Of a
    net that labels positions the stride is that by which an image may be moved so that all layers
    see it alike: the least common multiple of all strides.
    """
    is_by_position = result_of(network) in ("activations", POSTERIOR_MAP)
    if options.distance or (options.layer is None and is_by_position):
        prepared = prepare(network, options)
        seen = prepared.once(fields)
        if result_of(network) == POSTERIOR_MAP:
            periods = [[_period(seen[name].stride[i]) for name in seen] for i in (0, 1)]
            return network.input.type.size, (lcm(*periods[0]), lcm(*periods[1]))
        strides = [_pixels(seen[output.layer].stride) for output in prepared.outputs]
        rows, columns = zip(*strides, strict=True)
        return network.input.type.size, (max(rows), max(columns))
    own = CompileOptions(form=options.form, keep_map=options.keep_map)
    map_size, own_stride = _score_map(prepare(network, own))
    # What is left of the input when the other positions' steps are taken off; where padding adds
    # positions, that is less than nothing.
    height, width = (
        max(1, side - step * (number - 1))
        for side, step, number in zip(network.input.type.size, own_stride, map_size, strict=True)
    )
    _, stride = _score_map(prepare(network, options))
    return (height, width), stride


def _score_map(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the class score map, or of that of boxes, and pixels from one position to
    the next.
    """
    seen = network.once(fields)
    maps = [layer for layer in network.layers if layer.type.is_map]
    before_average = [layer for layer in maps if layer.type.size != (1, 1)]
    # Boxes are not averaged: the last layer's map is theirs.
    last = network[AVERAGE].inputs[0] if AVERAGE in network else network.outputs[0].layer
    # Where a net averages its last map itself, the positions are those of the map that is kept.
    last = next((out.layer for out in network.outputs if out.name == SCORE_MAP), last)
    if not network.type_of(last).is_map or not before_average:
        return (1, 1), _pixels(seen[maps[-1].name].stride) if maps else (1, 1)
    return network.type_of(last).size, _pixels(seen[last].stride)


def _period(stride: Number) -> int:
    """The fewest pixels that are whole positions: of strides below 1 that is one."""
    return Fraction(stride).numerator


def _pixels(pair: Pair) -> tuple[int, int]:
    rows, columns = pair
    return int(rows), int(columns)
