"""The paper's whole test protocol as one ONNX graph: a picture and the scales in, posteriors out.

The graph does what ``vggspec.runtime`` does around a net: it rescales the picture to each Q, adds
its mirror image, applies the nets densely and averages their posteriors. Each net is there once, in
the body of a loop over the scales; weights in files are initialisers of the graph around it.

Source: Simonyan & Zisserman 2015, sections 3.2 (rescaling to a smallest side Q, dense application,
mirror images), 4.2 (several scales) and 4.4 (several nets); the ONNX operator Loop-16.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx.helper import make_node
from onnx.numpy_helper import from_array

from vggspec.base.version import __version__
from vggspec.bundle.manifest import SCALES
from vggspec.compiler.backends.onnx.graph import (
    BOOL,
    FLOAT,
    INT64,
    UINT8,
    OnnxGraph,
    tensor_info,
)
from vggspec.compiler.backends.onnx.model import add_layers, check_embedded, preprocess
from vggspec.compiler.backends.onnx.rescaling import Rescaling
from vggspec.compiler.ir import Network
from vggspec.compiler.precision import number_types
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import WeightsFile, check_fits
from vggspec.runtime.fc_products import replace_dense_fc, weights_of, worth_rows

PICTURE, POSTERIORS = "picture", "posteriors"

#: The name of the node that fails where a rescaled picture is smaller than a net's window.
GUARD = "is_no_smaller_than_the_window"

_FROM_THE_END = np.iinfo(np.int64).min  # where a slice backwards ends that takes all


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNet:
    """A net of the graph."""

    name: str
    """Unlike that of any other: its nodes and weights are named ``<name>/…``."""

    network: Network
    """Prepared for dense application; its output is posteriors."""

    mean: tuple[float, ...]
    least: tuple[int, int]
    """Rows and columns of the smallest image that it takes."""

    weights: WeightsFile
    location: str | None
    """The weights file, from the folder of the graph; None embeds the weights."""


def emit(nets: Sequence[GraphNet], *, flip: bool) -> onnx.ModelProto:
    """The protocol of nets with the same classes, which all take gray images or none does.

    In   ``picture`` uint8 ``(H, W, C)``, ``scales`` int64 ``(K,)``: each Q in pixels
    Out  ``posteriors`` float32 ``(classes,)``, the mean over mirror images, scales and nets

    Where the smallest of the scales makes the picture smaller than a net's window, and where there
    is no scale, the node ``GUARD`` fails.

    Raises:
        VggspecError: weights do not fit their net, or are too large to embed.
    """
    for each in nets:
        check_fits(each.weights, each.network)
    check_embedded(nets[0].weights, [each.network for each in nets if each.location is None])
    first = nets[0].network
    (num_classes,) = first.type_of(first.outputs[0].layer).shape
    graph = OnnxGraph("protocol", {})
    rescaling = Rescaling(graph, PICTURE)
    size = graph.node("Shape", (PICTURE,), "size", start=0, end=2)
    sizes = Sizes(graph, size)
    number = _checked_number(graph, sizes, [each.least for each in nets])
    body = _body(graph, nets, rescaling, sizes, num_classes, flip=flip)
    always = graph.constant("always", np.array(True))
    nothing = graph.constant("nothing", np.zeros(num_classes, np.float32))
    total = graph.node("Loop", (number, always, nothing), "total", body=body)
    terms = graph.node("Cast", (number,), "number_of_scales_float", to=int(FLOAT))
    terms = graph.node("Mul", (terms, graph.number("number_of_nets", len(nets))), "terms")
    graph.node("Div", (total, terms), POSTERIORS)
    metadata = {
        "vggspec.net": " ".join(each.network.name for each in nets),
        "vggspec.weights_sha256": " ".join(each.weights.data_sha256() for each in nets),
    }
    inputs = [
        tensor_info(PICTURE, UINT8, ("H", "W", first.input.channels)),
        tensor_info(SCALES, INT64, ("K",)),
    ]
    outputs = [tensor_info(POSTERIORS, FLOAT, (num_classes,))]
    return graph.model(inputs, outputs, metadata, __version__)


class Sizes:
    """Rows and columns of the rescaled picture, rounded half up in integers, as the runtime's
    ``rescaled_size``: ``(2 * side * Q + short) // (2 * short)``.
    """

    def __init__(self, graph: OnnxGraph, size: str) -> None:
        self.one, two = graph.integers("one", (1,)), graph.integers("two", (2,))
        self._short = graph.node("ReduceMin", (size,), "short_side", keepdims=1)
        self._doubled = graph.node("Mul", (size, two), "twice_the_size")
        divisor = graph.node("Mul", (self._short, two), "twice_the_short_side")
        # Of an empty picture it would be 0, by which not every runtime refuses to divide.
        self._divisor = graph.node("Max", (divisor, self.one), "divisor")

    def at(self, graph: OnnxGraph, scale: str, name: str) -> str:
        """``(2,)``, for a ``scale`` of ``()`` or ``(1,)``."""
        product = graph.node("Mul", (self._doubled, scale), f"{name}_product")
        rounded = graph.node("Add", (product, self._short), f"{name}_sum")
        return graph.node("Div", (rounded, self._divisor), name)


def _checked_number(graph: OnnxGraph, sizes: Sizes, least: Sequence[tuple[int, int]]) -> str:
    """How many scales there are; computing it fails where the picture cannot be seen at one.

    Not every runtime refuses a convolution without any position, and what comes of an average over
    none is up to it. A number cannot take the shape (2,) anywhere.
    """
    needed = graph.integers("least_size", [max(sides) for sides in zip(*least, strict=True)])
    # Of no scales at all it is the largest integer, or an error; neither gives a size.
    smallest = graph.node("ReduceMin", (SCALES,), "smallest_scale", keepdims=1)
    size = sizes.at(graph, smallest, "smallest_size")
    is_less = graph.node("Less", (size, needed), "is_smaller_than_the_window")
    is_less = graph.node("Cast", (is_less,), "number_of_sides", to=int(INT64))
    is_less = graph.node("ReduceMax", (is_less,), "number_of_reasons", keepdims=1)
    shape = graph.node("Add", (is_less, sizes.one), "shape_of_the_number")
    number = graph.node("Shape", (SCALES,), "number_given")
    number = graph.node("Reshape", (number, shape), GUARD)
    return graph.node("Squeeze", (number,), "number_of_scales")


def _body(
    graph: OnnxGraph,
    nets: Sequence[GraphNet],
    rescaling: Rescaling,
    sizes: Sizes,
    num_classes: int,
    *,
    flip: bool,
) -> onnx.GraphProto:
    """One scale: the sum plus the posteriors of every net; weights go to ``graph``."""
    body = OnnxGraph("scale", {})
    scale = body.node("Gather", (SCALES, "index"), "scale")
    x = rescaling.add(body, sizes.at(body, scale, "rescaled_size"))
    if flip:
        names, values = ("begin", "end", "axis", "step"), (-1, _FROM_THE_END, 3, -1)
        slices = [
            graph.integers(f"mirror_{name}", (value,))
            for name, value in zip(names, values, strict=True)
        ]
        mirrored = body.node("Slice", (x, *slices), "mirror_image")
        x = body.node("Concat", (x, mirrored), "images", axis=0)
    images = graph.integers("axis_of_images", (0,))
    total = "sum_before"
    fc: set[str] = set()
    for each in nets:
        with graph.scope(f"{each.name}/"), body.scope(f"{each.name}/"):
            posteriors = _add_net(graph, body, each, x, fc)
            mean = body.node("ReduceMean", (posteriors, images), "mean_of_images", keepdims=0)
            total = body.node("Add", (total, mean), "sum")
    going_on = body.node("Identity", ("is_going_on",), "goes_on")
    shape = (num_classes,)
    proto = body.proto(
        [
            tensor_info("index", INT64, ()),
            tensor_info("is_going_on", BOOL, ()),
            tensor_info("sum_before", FLOAT, shape),
        ],
        [tensor_info(going_on, BOOL, ()), tensor_info(total, FLOAT, shape)],
    )
    _bring_weights_inside(proto, graph.weights, fc)
    return proto


def _bring_weights_inside(
    body: onnx.GraphProto, weights: Sequence[onnx.TensorProto], fc: Collection[str]
) -> None:
    """Let the loop's body read the weights of the graph around it, ``fc`` those of FC layers.

    A Reshape that changes nothing brings each into the body: runtimes compute it once, and then
    have a constant there, which they may lay out as convolutions want it. FC layers become matrix
    products, which read their weights where they are.
    """
    known = weights_of(body, weights)
    read_outside = replace_dense_fc(body, known, worth_rows(body, known, fc), by_rows=True)
    brought = [each for each in weights if each.name not in read_outside]
    inner = {each.name: f"{each.name}.inner" for each in brought}
    for node in body.node:
        node.input[:] = [inner.get(name, name) for name in node.input]
    shapes = {len(each.dims): f"unchanged_{len(each.dims)}_axes" for each in brought}
    for axes, name in shapes.items():
        body.initializer.append(from_array(np.zeros(axes, np.int64), name))
    reshapes = [
        make_node("Reshape", [outer, shapes[len(each.dims)]], [name], name)
        for each, (outer, name) in zip(brought, inner.items(), strict=True)
    ]
    nodes = [*reshapes, *body.node]
    del body.node[:]
    body.node.extend(nodes)


def _add_net(graph: OnnxGraph, body: OnnxGraph, net: GraphNet, x: str, fc: set[str]) -> str:
    """The posteriors ``(N, classes)`` of a net on rescaled pixels ``(N, C, H, W)``; the names of
    the weights of its FC layers go to ``fc``.

    Weights in files are initialisers of the graph around the loop, where a runtime may read them
    whatever links lead to them.
    """

    def give(param: Param) -> str:
        stored = net.weights.tensors[param.name]
        if net.location is None:
            data = net.weights.read(param.name).tobytes()
            name = body.embedded(param.name, param.shape, "fp32", data)
        else:
            name = graph.external(param.name, param.shape, net.location, stored.offset)
        if len(stored.shape) == 2:  # (out, in), as FC layers alone have it
            fc.add(name)
        return name

    image = preprocess(body, net.network.input, net.mean, x)
    types = number_types(net.network, "fp32")
    tensors = add_layers(body, net.network, image, types, give)
    return tensors[net.network.outputs[0].layer]
