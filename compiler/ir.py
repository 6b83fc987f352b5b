"""The intermediate representation: a typed, immutable graph of layers.

A ``Network`` is an ordered tuple of layers, each naming its inputs, which stand before it. A tensor
may have any number of readers, and a net several outputs. Building one infers and checks every
shape, so no shape is ever missing or stale; changing one makes another one. Shapes are those of one
image: the batch axis is the backends' business.

Axes: C channels, H rows, W columns. A feature map is ``(C, H, W)``, a vector ``(C,)``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vggspec.base.catalogue import shapes
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.base.source import Source, Span
from vggspec.compiler.tensor import MisfitError, Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.ops.op import Op

Result = TypeVar("Result")

MAX_PARAMETERS = 10**11

#: How many sizes of images are tried for one at which branches meet.
MAX_TRIED = 256

Color = Literal["RGB", "BGR", "gray"]

#: The name of the tensor that enters every network.
IMAGE = "image"

#: The output of a network that was cut after one of its layers (``passes/keep_up_to.py``).
FEATURES = "features"

#: Outputs with a number for each class at each position.
SCORE_MAP, POSTERIOR_MAP = "score_map", "posterior_map"


@dataclass(frozen=True, slots=True)
class Origin:
    """The text that a layer came from; it survives every rewrite."""

    source: Source = field(repr=False)
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """What enters the net: ``(x - mean) * scale / std`` with x from 0 to 255.

    ``mean`` and ``std`` are in units of 0 to 255, one number a channel in the order of ``color``.
    """

    height: int
    width: int
    color: Color = "RGB"
    mean: tuple[float, ...] | None = None
    """None where the spec leaves it to the training set."""

    std: tuple[float, ...] | None = None
    scale: float = 1.0

    @property
    def channels(self) -> int:
        """3, or 1 for gray."""
        return 1 if self.color == "gray" else 3

    @property
    def type(self) -> TensorType:
        """The tensor that enters the first layer."""
        return TensorType((self.channels, self.height, self.width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One occurrence of an op in a graph, before its shapes are known."""

    name: str
    op: "Op"
    inputs: tuple[str, ...]
    origin: Origin | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The inputs whose numbers it reads: all but one of which it reads the size."""
        return self.inputs[:1] if self.op.reads_size else self.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Node):
    """A node with its output type and its parameters."""

    type: TensorType
    params: tuple[Param, ...] = ()


def _typed(node: Node, type: TensorType, params: tuple[Param, ...]) -> Layer:
    return Layer(
        name=node.name,
        op=node.op,
        inputs=node.inputs,
        origin=node.origin,
        type=type,
        params=params,
    )


@dataclass(frozen=True, slots=True)
class Output:
    """A result of the network: the public name, and the layer that computes it."""

    name: str
    layer: str


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A net as a graph in topological order. Make one with ``build``."""

    name: str
    input: ImageInput
    layers: tuple[Layer, ...]
    outputs: tuple[Output, ...]
    _by_name: dict[str, Layer] = field(init=False, repr=False, compare=False)
    _known: dict[object, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {layer.name: layer for layer in self.layers})
        object.__setattr__(self, "_known", {})
        assert len(self._by_name) == len(self.layers), "layer names are unique"

    def __getitem__(self, name: str) -> Layer:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def type_of(self, name: str) -> TensorType:
        """The type of a layer's output, or of the image."""
        return self.input.type if name == IMAGE else self._by_name[name].type

    def types_of(self, node: Node) -> Types:
        """The types of a layer's inputs."""
        return tuple([self.type_of(name) for name in node.inputs])

    def users(self, name: str) -> tuple[Layer, ...]:
        """The layers that read a tensor."""
        return tuple(layer for layer in self.layers if name in layer.inputs)

    def params(self) -> Iterator[Param]:
        """All arrays, in the order of the layers."""
        for layer in self.layers:
            yield from layer.params

    @property
    def parameters(self) -> int:
        """How many numbers training sets."""
        return sum(param.num_elements for param in self.params() if param.is_trained)

    @property
    def weight_layers(self) -> tuple[Layer, ...]:
        """The conv and FC layers (section 2.1 of the paper)."""
        return tuple(layer for layer in self.layers if layer.op.is_weight_layer)

    @property
    def is_cut(self) -> bool:
        """Whether it is the beginning of a net, and uses the beginning of its weights."""
        return any(output.name == FEATURES for output in self.outputs)

    @property
    def num_classes(self) -> int:
        """Channels of the first output."""
        return self.type_of(self.outputs[0].layer).channels

    def once(self, compute: Callable[["Network"], Result]) -> Result:
        """What ``compute`` makes of this net, and has made of it if it was asked before.

        ``compute`` is pure, such as a pass; it is hashable, and equal to what computes the same.
        """
        if compute not in self._known:
            self._known[compute] = compute(self)
        result: Result = self._known[compute]
        return result

    def rebuild(self, nodes: Iterable[Node], outputs: Sequence[Output] | None = None) -> "Network":
        """The same net with other layers, or other outputs."""
        outputs = self.outputs if outputs is None else outputs
        return build(self.name, self.input, nodes, outputs, before=self)

    def at(self, height: int, width: int) -> "Network":
        """The same net on images of another size.

        Raises:
            VggspecError: a layer's weights depend on the size, or the size is too small.
        """
        if (height, width) == (self.input.height, self.input.width):
            return self
        resized = replace(self.input, height=height, width=width)
        return build(self.name, resized, self.layers, self.outputs, fixed=self)


class Builder:
    """A network that grows a layer at a time, with every shape inferred and checked.

    ``fixed`` is a network of the same layers whose parameters must keep their shapes. ``before`` is
    one whose layers are taken over where they are added as they are and read the same types.
    """

    def __init__(
        self,
        name: str,
        input: ImageInput,
        *,
        fixed: Network | None = None,
        before: Network | None = None,
    ) -> None:
        self.name = name
        self.input = input
        self._fixed = fixed
        self._before = before
        self._types = {IMAGE: input.type}
        self._layers: dict[str, Layer] = {}
        self._parameters = 0

    def __getitem__(self, name: str) -> Layer:
        return self._layers[name]

    def __contains__(self, name: str) -> bool:
        return name in self._layers

    def type_of(self, name: str) -> TensorType:
        """The type of a layer's output, or of the image."""
        return self._types[name]

    def add(self, node: Node) -> TensorType:
        """Add a layer; the type of its output.

        Raises:
            VggspecError: it does not fit what it reads; the error is at the layer's origin.
            ValueError: it has too many inputs or too few, or one that has not been added.
        """
        self._check_edges(node)
        inputs = tuple([self._types[name] for name in node.inputs])
        layer = self._taken_over(node, inputs)
        try:
            if layer is None:
                layer = self._inferred(node, inputs)
            self._parameters += sum([param.num_elements for param in layer.params])
            if self._parameters > MAX_PARAMETERS:
                too_many = shapes.TooManyWeights(parameters=self._parameters, limit=MAX_PARAMETERS)
                raise MisfitError(too_many)
        except MisfitError as misfit:
            what = misfit.what
            if isinstance(what, shapes.PoolEmpties):
                what = _with_needed_input(what, self.input, [*self._layers.values(), node])
            source, span = (node.origin.source, node.origin.span) if node.origin else (None, None)
            path = None if source else self.name
            raise VggspecError(report(what, source, span, path=path)) from None
        self._types[node.name] = layer.type
        self._layers[node.name] = layer
        return layer.type

    def finish(self, outputs: Sequence[Output]) -> Network:
        """The network of the layers added so far."""
        return Network(
            name=self.name,
            input=self.input,
            layers=tuple(self._layers.values()),
            outputs=tuple(outputs),
        )

    def _taken_over(self, node: Node, inputs: Types) -> Layer | None:
        """The layer as it was, if its op and the types of its inputs are the same."""
        if self._before is None or node.name not in self._before:
            return None
        layer = self._before[node.name]
        if layer.op is not node.op or self._before.types_of(layer) != inputs:
            return None
        if layer is node:
            return layer
        return _typed(node, layer.type, layer.params)

    def _inferred(self, node: Node, inputs: Types) -> Layer:
        """The layer of a node.

        Raises:
            MisfitError: it does not fit what it reads.
        """
        y = node.op.infer(inputs)
        params = node.op.params(inputs, node.name)
        if self._fixed is not None and params != self._fixed[node.name].params:
            raise self._misfit_of_weights(self._fixed, node)
        return _typed(node, y, params)

    def _check_edges(self, node: Node) -> None:
        """Refuse a graph that no spec and no pass may build."""
        given = len(node.inputs)
        if given < 2 if node.op.is_join else given != 1 + node.op.reads_size:
            takes = "two inputs or more" if node.op.is_join else "one input"
            takes = "an input and a size" if node.op.reads_size else takes
            raise ValueError(f"{node.name}: {node.op.keyword} takes {takes}, not {given}")
        if node.name in self._types:
            raise ValueError(f"two layers are called {node.name}")
        for name in node.inputs:
            if name not in self._types:
                raise ValueError(f"{node.name} reads {name}, which is not above it")

    def _misfit_of_weights(self, fixed: Network, node: Node) -> MisfitError:
        """A layer whose arrays would change their shapes on images of this size."""
        source = node.inputs[0]
        x, made_for = self._types[source], fixed.type_of(source)
        if not x.is_map:
            before = map_before(fixed, source)
            assert before is not None, "what a layer computes has the same size at any input"
            made_for = before
            while not x.is_map:
                source = self[source].inputs[0]
                x = self._types[source]
        return MisfitError(
            shapes.FixedInput(layer=node.name, made_for=made_for.shape, given=x.shape)
        )


def build(
    name: str,
    input: ImageInput,
    nodes: Iterable[Node],
    outputs: Sequence[Output],
    *,
    fixed: Network | None = None,
    before: Network | None = None,
) -> Network:
    """A network with every shape inferred and checked.

    ``fixed`` and ``before`` as for ``Builder``.

    Raises:
        VggspecError: at the first layer that does not fit; what follows would be an echo.
        ValueError: a layer has too many inputs or too few, or one that is not above it.
    """
    builder = Builder(name, input, fixed=fixed, before=before)
    for node in nodes:
        builder.add(node)
    return builder.finish(outputs)


def map_before(net: Network, name: str) -> TensorType | None:
    """The feature map that a vector was flattened from; None for one that a layer computes."""
    while not net.type_of(name).is_map:
        layer = net[name]
        if layer.op.is_weight_layer or layer.op.is_join:
            return None
        name = layer.inputs[0]
    return net.type_of(name)


def _with_needed_input(
    what: shapes.PoolEmpties, input: ImageInput, nodes: Sequence[Node]
) -> shapes.PoolEmpties:
    """The same, with the smallest input that the layers up to here take and the poolings so far.

    Rows and columns are searched by themselves, among square images. Branches meet at the size that
    is written, hence again at every sum of it and a period (``sizes.py``); where that is more than
    ``MAX_TRIED``, no input is named.
    """
    pools = sum(node.op.keyword in ("maxpool", "avgpool") for node in nodes)

    def fits(side: int, *, meets: bool) -> bool:
        """Whether all layers take an image, and branches meet or are taken to."""
        types = {IMAGE: TensorType((input.channels, side, side))}
        try:
            for node in nodes:
                inputs = tuple(types[name] for name in node.inputs)
                if node.op.is_join and not meets:
                    size = inputs[0].shape[1:]
                    inputs = tuple(TensorType((x.channels, *size)) for x in inputs)
                elif node.op.reads_size and not meets:
                    types[node.name] = TensorType((inputs[0].channels, *inputs[1].size))
                    continue
                types[node.name] = node.op.infer(inputs)
        except MisfitError:
            return False
        return True

    least = smallest(lambda side: fits(side, meets=False))

    def found(side: int) -> int | None:
        """The smallest one from ``side`` on."""
        assert least is not None
        first = max(least, side)
        tried = range(first, first + MAX_TRIED)
        return next((each for each in tried if fits(each, meets=True)), None)

    needed = None
    if least is not None:
        height, width = found(input.height), found(input.width)
        if height is not None and width is not None:
            needed = (height, width)
    return replace(what, input=(input.height, input.width), needed=needed, pools=pools)


def smallest(fits: Callable[[int], bool], limit: int = 1 << 16) -> int | None:
    """The smallest number from 1 to ``limit`` that fits, where all larger ones do too."""
    low, high = 0, 1  # low does not fit
    while not fits(high):
        if high == limit:
            return None
        low, high = high, min(2 * high, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
