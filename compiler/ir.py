"""The intermediate representation: a typed, immutable graph of layers.

A ``Network`` is an ordered tuple of layers, each naming its inputs. Making one infers and checks
every shape, so no shape is ever missing or stale; changing one makes another one. Shapes are
those of one image: the batch axis is the backends' business.

Axes: C channels, H rows, W columns. A feature map is ``(C, H, W)``, a vector ``(C,)``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from vggspec.base.catalogue import shapes
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.short_repr import short_repr
from vggspec.base.source import Source, Span
from vggspec.compiler.tensor import MisfitError, Param, TensorType

if TYPE_CHECKING:
    from vggspec.compiler.ops.op import Op

MAX_PARAMETERS = 10**11

Color = Literal["RGB", "BGR", "gray"]

#: The name of the tensor that enters every network.
IMAGE = "image"

#: The output of a network that was cut after one of its layers (``passes/keep_up_to.py``).
FEATURES = "features"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer(Node):
    """A node with its output type and its parameters."""

    type: TensorType
    params: tuple[Param, ...] = ()


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {layer.name: layer for layer in self.layers})
        assert len(self._by_name) == len(self.layers), "layer names are unique"

    def __getitem__(self, name: str) -> Layer:
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def type_of(self, name: str) -> TensorType:
        """The type of a layer's output, or of the image."""
        return self.input.type if name == IMAGE else self._by_name[name].type

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

    def rebuild(self, nodes: Iterable[Node], outputs: Sequence[Output] | None = None) -> "Network":
        """The same net with other layers, or other outputs."""
        return build(self.name, self.input, nodes, self.outputs if outputs is None else outputs)

    def at(self, height: int, width: int) -> "Network":
        """The same net on images of another size.

        Raises:
            VggspecError: a layer's weights depend on the size, or the size is too small.
        """
        if (height, width) == (self.input.height, self.input.width):
            return self
        resized = replace(self.input, height=height, width=width)
        return build(self.name, resized, self.layers, self.outputs, fixed=self)


def build(
    name: str,
    input: ImageInput,
    nodes: Iterable[Node],
    outputs: Sequence[Output],
    *,
    fixed: Network | None = None,
) -> Network:
    """A network with every shape inferred and checked.

    ``fixed`` is a network of the same layers whose parameters must keep their shapes.

    Raises:
        VggspecError: at the first layer that does not fit; what follows would be an echo.
    """
    types = {IMAGE: input.type}
    layers: list[Layer] = []
    total = 0
    for node in nodes:
        x = types[node.inputs[0]]
        try:
            y = node.op.infer(x)
            params = node.op.params(x, node.name)
            if fixed is not None and params != fixed[node.name].params:
                made_for = fixed.type_of(fixed[node.name].inputs[0])
                before = made_for if x.is_map else map_before(fixed, node.inputs[0])
                assert before is not None, "what a layer computes has the same size at any input"
                now = x if x.is_map else TensorType((before.channels, *_map_size(layers, node)))
                raise MisfitError(
                    shapes.FixedInput(layer=node.name, made_for=before.shape, given=now.shape)
                )
            total += sum(param.num_elements for param in params)
            if total > MAX_PARAMETERS:
                raise MisfitError(shapes.TooManyWeights(parameters=total, limit=MAX_PARAMETERS))
        except MisfitError as misfit:
            what = misfit.what
            if isinstance(what, shapes.PoolEmpties):
                what = _with_needed_input(what, input, [*layers, node])
            source, span = (node.origin.source, node.origin.span) if node.origin else (None, None)
            raise VggspecError(report(what, source, span, path=None if source else name)) from None
        types[node.name] = y
        layers.append(
            Layer(
                name=node.name,
                op=node.op,
                inputs=node.inputs,
                origin=node.origin,
                type=y,
                params=params,
            )
        )
    return Network(name=name, input=input, layers=tuple(layers), outputs=tuple(outputs))


def map_before(net: Network, name: str) -> TensorType | None:
    """The feature map that a vector was flattened from; None for one that a layer computes."""
    while not net.type_of(name).is_map:
        if net[name].op.is_weight_layer:
            return None
        name = net[name].inputs[0]
    return net.type_of(name)


def _map_size(layers: Sequence[Layer], node: Node) -> tuple[int, int]:
    by_name = {layer.name: layer for layer in layers}
    name = node.inputs[0]
    while not by_name[name].type.is_map:
        name = by_name[name].inputs[0]
    return by_name[name].type.size


def _with_needed_input(
    what: shapes.PoolEmpties, input: ImageInput, nodes: Sequence[Node]
) -> shapes.PoolEmpties:
    """The same, with the smallest input that the layers up to here take and the poolings so far."""
    pools = sum(node.op.keyword in ("maxpool", "avgpool") for node in nodes)

    def fits(height: int, width: int) -> bool:
        types = {IMAGE: TensorType((input.channels, height, width))}
        try:
            for node in nodes:
                types[node.name] = node.op.infer(types[node.inputs[0]])
        except MisfitError:
            return False
        return True

    side = smallest(lambda n: fits(n, n))
    needed = (max(side, input.height), max(side, input.width)) if side else None
    if side and input.height == input.width:
        needed = (side, side)
    return replace(what, input=(input.height, input.width), needed=needed, pools=pools)


def smallest(fits: Callable[[int], bool], limit: int = 1 << 16) -> int | None:
    """The smallest number from 1 to ``limit`` that fits, where all larger ones do too."""
    if not fits(limit):
        return None
    low, high = 0, limit  # low does not fit, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high
