"""The layouts of weights in other tools, and their conversion.

A convolution's kernel is ``(out, in, rows, columns)`` here, as in PyTorch and Caffe, and the first
FC layer takes its map channel by channel. Tools that keep the channels of an image last keep those
of the kernels last too, and their first FC layer takes the map position by position.

Sources: the documentation of ``mlx.nn.Conv2d``, ``keras.layers.Conv2D``, ``tf.nn.conv2d``,
``torch.nn.Conv2d``.
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import numpy as np

from vggspec.compiler.ir import Layer, Network, map_before
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.conv import AnyConv
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.tensor import Param
from vggspec.compiler.weights import Array

Layout = Literal["oihw", "ohwi", "hwio"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

#: Whose layout it is, and what becomes of it.
IN_WORDS: dict[Layout, str] = {
    "oihw": "out, in, rows, columns, as PyTorch has it",
    "ohwi": "out, rows, columns, in, as MLX has it",
    "hwio": "rows, columns, in, out, as TensorFlow has it",
}

#: The axes of a kernel in a layout, in the order of ours.
_AXES: dict[Layout, tuple[int, int, int, int]] = {
    "oihw": (0, 1, 2, 3),
    "ohwi": (0, 3, 1, 2),
    "hwio": (3, 2, 0, 1),
}


@dataclass(frozen=True, slots=True)
class Slot:
    """A layer of ours that takes the weights of a module."""

    layer: Layer
    kernel: tuple[int, int, int, int] | None
    """The shape of its weight as a convolution; None for batch normalisation."""

    is_flat: bool
    """Whether the weight may be a matrix: of an FC layer, or a convolution that is one."""

    channels_apart: int | None = None
    """How many channels a depthwise convolution takes, each with filters of its own; None of other
    layers."""

    @property
    def weight(self) -> Param:
        """The array that the module's weight becomes."""
        return self.layer.params[0]

    @property
    def outputs(self) -> int:
        """The channels that it gives, each with a number of the bias."""
        return self.layer.type.channels

    @property
    def is_norm(self) -> bool:
        """Whether it is batch normalisation."""
        return self.kernel is None

    @property
    def takes(self) -> tuple[int, ...]:
        """The shape to name where another does not fit."""
        return self.weight.stored


@dataclass(frozen=True, slots=True)
class Change:
    """A conversion of a tensor: axes are split and permuted."""

    apart: tuple[int, ...]
    axes: tuple[int, ...]

    def apply(self, tensor: Array, shape: tuple[int, ...]) -> Array:
        """The tensor as ours, of this shape."""
        moved = tensor.reshape(self.apart).transpose(self.axes)
        return np.ascontiguousarray(moved).reshape(shape)

    def undo(self, ours: Array, shape: tuple[int, ...]) -> Array:
        """The tensor of this shape that ``apply`` makes ours of."""
        moved = ours.reshape([self.apart[axis] for axis in self.axes])
        back = moved.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(back).reshape(shape)


def slots_of(network: Network) -> list[Slot]:
    """The layers that have weights, in the order of the net."""
    slots = []
    for layer in network.layers:
        if isinstance(layer.op, BatchNorm):
            slots.append(Slot(layer, None, is_flat=False))
        elif isinstance(layer.op, AnyConv):
            out, channels, height, width = layer.params[0].stored
            x = network.type_of(layer.inputs[0])
            covers = (height, width) == x.size and layer.op.padding == (0, 0)
            is_flat = channels == x.channels and (covers or (height, width) == (1, 1))
            apart = x.channels if channels == 1 else None
            slots.append(Slot(layer, (out, channels, height, width), is_flat, apart))
        elif isinstance(layer.op, UpConv):
            # Theirs lie as those of convolutions, with in and out exchanged: so do ours.
            first, second, height, width = layer.params[0].stored
            slots.append(Slot(layer, (first, second, height, width), is_flat=False))
        elif layer.op.is_weight_layer:
            before = map_before(network, layer.inputs[0])
            shape = (layer.params[0].stored[1], 1, 1) if before is None else before.shape
            channels, height, width = shape
            out = layer.params[0].stored[0]
            slots.append(Slot(layer, (out, channels, height, width), is_flat=True))
    return slots


def change_for(slot: Slot, shape: tuple[int, ...], layout: Layout) -> Change | None:
    """How a weight of this shape in this layout becomes the slot's; None where it does not."""
    if slot.kernel is None:
        return Change(shape, (0,)) if shape == slot.weight.stored else None
    axes = _AXES[layout]
    # The kernel as the layout has it.
    kernel = [0, 0, 0, 0]
    for ours, theirs in enumerate(axes):
        kernel[theirs] = slot.kernel[ours]
    apart = tuple(kernel)
    if shape == apart:
        return Change(apart, axes)
    if layout == "hwio" and slot.channels_apart is not None:
        # A depthwise kernel of TensorFlow is rows, columns, in, times.
        out, _, *window = slot.kernel
        times = out // slot.channels_apart
        if shape == (*window, slot.channels_apart, times):
            return Change(shape, (2, 3, 0, 1))
    if slot.is_flat and shape in _matrices(slot.kernel, layout):
        return Change(apart, axes)
    return None


def _matrices(kernel: tuple[int, ...], layout: Layout) -> tuple[tuple[int, ...], ...]:
    """An FC layer's weight as a matrix, and as a convolution of 1 × 1."""
    out, inputs = kernel[0], prod(kernel[1:])
    if layout == "oihw":
        return (out, inputs), (out, inputs, 1, 1)
    if layout == "ohwi":
        return (out, inputs), (out, 1, 1, inputs)
    return (inputs, out), (1, 1, inputs, out)


def vector(tensor: Array, length: int) -> Array | None:
    """A tensor of one axis, others being 1, as a vector of that length; None where it is not."""
    if tensor.size != length or sum(side != 1 for side in tensor.shape) > 1:
        return None
    return tensor.reshape(length)
