"""The cost of a network: parameters, arithmetic, memory, receptive fields.

Everything is counted from the graph, nothing is measured. Source: Simonyan & Zisserman 2015,
section 2.3 (receptive fields) and Table 2 (parameters).

Axes: C channels, H rows, W columns; pairs are (rows, columns).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vggspec.base.shape import Shape
from vggspec.compiler.geometry import Number, fields
from vggspec.compiler.ir import IMAGE, Layer, Network
from vggspec.compiler.memory import owners
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.tensor import TensorType

FLOAT_BYTES = 4
INDEX_BYTES = 8
MASK_BYTES = 1

_KEEP_INPUT = (
    Conv | DepthwiseConv | UpConv | Linear | MaxPool | BatchNorm | Lrn | PadShortcut | Silu
)
_KEEP_OUTPUT = Relu | Softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """The cost of one layer."""

    name: str
    op: str
    """The op's keyword."""

    output: Shape
    parameters: int
    """Numbers that training sets; running statistics do not count."""

    macs: int
    """Multiply-accumulates for one image."""

    activation_bytes: int
    """The output for one image, in fp32."""

    receptive_field: tuple[int, int]
    """Pixels of the image that one position of the output sees, padding included."""

    stride: tuple[Number, Number]
    """Pixels of the image from one position of the output to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCost:
    """The cost of a network."""

    layers: tuple[LayerCost, ...]
    weight_bytes: int
    """All arrays in fp32, running statistics included."""

    kept_bytes: int
    """What autograd keeps of one image between the forward and the backward pass; see ``cost``."""

    @property
    def parameters(self) -> int:
        """Numbers that training sets."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """Floating-point operations for one image: a multiplication and an addition a MAC."""
        return 2 * self.macs

    @property
    def largest(self) -> LayerCost:
        """The layer with the largest output, the first of several."""
        return max(self.layers, key=lambda layer: layer.activation_bytes)

    def training_bytes(self, batch: int, copies_kept: int = 1) -> int:
        """Memory for a step on ``batch`` images, in fp32.

        The weights, their gradients, as many copies more as the training keeps (one for SGD with
        momentum), running statistics, and what autograd keeps of each image. Temporary memory is
        not counted: gradients of activations, the workspace of convolutions, prefetched images. So
        this is a lower bound.
        """
        kept = (1 + copies_kept) * FLOAT_BYTES * self.parameters
        return self.weight_bytes + kept + batch * self.kept_bytes


def cost(network: Network) -> NetworkCost:
    """Count a network.

    ``kept_bytes`` holds each tensor that PyTorch's backward pass will read, once:

    - the inputs of conv, upconv, FC, pooling, BN, LRN and SiLU, and of ReLU6, which copies what it
      overwrites;
    - the outputs of ReLU, which works in place of its input where nothing else reads that, and of
      soft-max;
    - for each max-pooled number the index of where it came from, 8 bytes; so for what a shortcut
      with padding takes of its input;
    - for each number under dropout a byte that says whether it lives;
    - for LRN the padded squares, the sums and the denominators.

    Weights are not counted again. Sums, joins, crops, ``gap``, ``up`` and ``resize`` keep nothing,
    nor does what comes before the first weights.
    """
    seen = network.once(fields)
    layers = [
        LayerCost(
            name=layer.name,
            op=layer.op.keyword,
            output=layer.type.shape,
            parameters=sum(p.num_elements for p in layer.params if p.is_trained),
            macs=layer.op.macs(network.types_of(layer), layer.type),
            activation_bytes=FLOAT_BYTES * layer.type.num_elements,
            receptive_field=seen[layer.name].size,
            stride=seen[layer.name].stride,
        )
        for layer in network.layers
    ]
    return NetworkCost(
        layers=tuple(layers),
        weight_bytes=FLOAT_BYTES * sum(param.num_elements for param in network.params()),
        kept_bytes=_kept_bytes(network),
    )


@dataclass(frozen=True, slots=True)
class RunCost:
    """What one run on a batch takes."""

    macs: int
    bytes: int
    """The peak memory of activations: what a run takes in addition to weights and
    the workspace of kernels. Kernels that fuse layers take less."""


def run_cost(
    network: Network, shape: tuple[int, int, int], number_bytes: Mapping[str, int]
) -> RunCost:
    """What a run on ``shape``, images x rows x columns, takes.

    ``number_bytes`` is the size of a number by the layer that computes it; the image is fp32.

    Raises:
        VggspecError: the net does not take images of that size.
    """
    images, height, width = shape
    network = network.at(height, width)
    owner = owners(network)
    last_use: dict[str, int] = {}
    for i, layer in enumerate(network.layers):
        for name in layer.inputs:
            last_use[owner[name]] = i
    for output in network.outputs:
        last_use[owner[output.layer]] = len(network.layers)
    alive = {IMAGE: FLOAT_BYTES * network.input.type.num_elements}
    most = 0
    for i, layer in enumerate(network.layers):
        if owner[layer.name] == layer.name:
            alive[layer.name] = number_bytes[layer.name] * layer.type.num_elements
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, -1) > i}
    return RunCost(macs=images * cost(network).macs, bytes=images * most)


def _kept_bytes(network: Network) -> int:
    memory = owners(network)
    learning: set[str] = set()  # layers with weights of their own or before them
    kept: set[str] = set()
    more = 0
    for layer in network.layers:
        op = layer.op
        if not layer.params and learning.isdisjoint(layer.sources):
            continue  # nothing before it needs a gradient
        learning.add(layer.name)
        if isinstance(op, Relu6) and memory[layer.name] != layer.name:
            more += FLOAT_BYTES * layer.type.num_elements
        elif isinstance(op, _KEEP_INPUT | Relu6):
            kept.update(memory[name] for name in layer.sources)
        if isinstance(op, _KEEP_OUTPUT):
            kept.add(memory[layer.name])
        more += _own_bytes(layer, network.type_of(layer.inputs[0]))
    return more + sum(FLOAT_BYTES * network.type_of(name).num_elements for name in kept)


def _own_bytes(layer: Layer, x: TensorType) -> int:
    """What the backward pass needs in addition to inputs and outputs."""
    match layer.op:
        case AvgPool():
            return 0
        case MaxPool():
            return INDEX_BYTES * layer.type.num_elements
        case PadShortcut():
            rows, columns = layer.type.size
            return INDEX_BYTES * x.channels * rows * columns
        case Dropout():
            return MASK_BYTES * x.num_elements
        case Lrn(n=n):
            rows, columns = x.size
            return FLOAT_BYTES * (3 * x.num_elements + (n - 1) * rows * columns)
        case _:
            return 0
