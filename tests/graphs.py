"""Nets that are no columns, written on the IR: residual, inception-like, dense, with two heads."""

import numpy as np
from numpy.typing import NDArray

from vggspec.compiler.ir import IMAGE, Builder, Color, ImageInput, Network, Node, Output
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.dropout import Dropout
from vggspec.compiler.ops.dwconv import DepthwiseConv
from vggspec.compiler.ops.flatten import Flatten
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.linear import Linear
from vggspec.compiler.ops.lrn import Lrn
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.tensor import TensorType

Arrays = dict[str, NDArray[np.float32]]


class Graph:
    """A net that grows: each method adds layers and gives the name of their result."""

    def __init__(self, height: int, width: int, color: Color = "gray", name: str = "graph") -> None:
        self._builder = Builder(name, ImageInput(height=height, width=width, color=color))
        self._number = 0

    def add(self, op: Op, *inputs: str, name: str | None = None) -> str:
        """One layer, called after its op unless it has a name."""
        self._number += 1
        name = name or f"{type(op).__name__.lower()}{self._number}"
        self._builder.add(Node(name=name, op=op, inputs=inputs))
        return name

    def read(self) -> set[str]:
        """The tensors that a layer reads."""
        return {name for layer in self._builder.finish(()).layers for name in layer.inputs}

    def type_of(self, name: str) -> TensorType:
        return self._builder.type_of(name)

    def conv(
        self,
        x: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        pad: int | None = None,
        norm: bool = False,
        act: Op | None = Relu(),  # noqa: B008 (immutable)
        name: str | None = None,
    ) -> str:
        """A conv as papers have it: with BN or a bias, and an activation."""
        pad = kernel // 2 if pad is None else pad
        op = Conv(
            kernel_size=(kernel, kernel),
            out_channels=channels,
            stride=stride,
            padding=(pad, pad),
            bias=not norm,
        )
        x = self.add(op, x, name=name)
        x = self.add(BatchNorm(), x) if norm else x
        return x if act is None else self.add(act, x)

    def net(self, *outputs: str, **named: str) -> Network:
        """The net with these results; one without a name is called as lowering calls it."""
        found = [Output(name, layer) for name, layer in named.items()]
        for layer in outputs:
            is_softmax = isinstance(self._builder[layer].op, Softmax)
            found.insert(0, Output("posteriors" if is_softmax else "scores", layer))
        return self._builder.finish(found)


def residual(
    height: int = 21, width: int = 21, *, pad: int | None = None, fc: bool = False
) -> Network:
    """ResNet with two stages: option B in the first block, then identity, then option A.

    ``pad`` is that of 3 × 3 convs; where they pad nothing, the blocks are of 1 × 1 convs. With
    ``fc`` the head is an FC of the whole map.
    """
    net = Graph(height, width, "gray", "residual")
    side = 3 if pad is None else 1
    x = net.conv(IMAGE, 4, 3, pad=pad, norm=True)
    x = net.add(MaxPool(), x)

    branch = net.conv(x, 6, side, 2, norm=True)
    branch = net.conv(branch, 6, side, norm=True, act=None)
    short = net.conv(x, 6, 1, 2, norm=True, act=None)
    x = net.add(Relu(), net.add(Add(), branch, short, name="block1_add"))

    branch = net.conv(x, 6, side, norm=True)
    branch = net.conv(branch, 6, side, norm=True, act=None)
    x = net.add(Relu(), net.add(Add(), branch, x, name="block2_add"))

    branch = net.conv(x, 8, side, 2)
    branch = net.conv(branch, 8, side, act=None)
    short = net.add(PadShortcut(out_channels=8, stride=2), x)
    x = net.add(Relu(), net.add(Add(), branch, short, name="block3_add"))

    x = net.add(MaxPool(), x, name="last_map")
    x = net.add(Flatten(), x if fc else net.add(GlobalAvgPool(), x, name="gap"))
    x = net.add(Linear(out_channels=5), x, name="fc")
    return net.net(net.add(Softmax(), x, name="prob"))


def inception(height: int = 23, width: int = 19, *, pad: int | None = None) -> Network:
    """Two modules of four branches, a pooling between them, and two FC layers on the whole map.

    ``pad`` is that of 3 × 3 convs before the modules; in them 1 × 1 convs take their place.
    """
    net = Graph(height, width, "gray", "inception")
    side = 3 if pad is None else 1

    def module(x: str, name: str) -> str:
        a = net.conv(x, 3, 1)
        b = net.conv(net.conv(x, 2, 1), 3, side)
        c = net.conv(net.conv(x, 2, 1), 2, 1 if side == 1 else 5)
        d = net.conv(net.add(MaxPool(kernel_size=side, stride=1, padding=side // 2), x), 2, 1)
        return net.add(Concat(), a, b, c, d, name=name)

    x = net.conv(IMAGE, 4, 3, 2, pad=pad)
    x = net.add(MaxPool(kernel_size=3), x)
    x = net.add(Lrn(), x)
    x = module(x, "module1")
    x = net.add(MaxPool(), x)
    x = module(x, "module2")
    x = net.add(MaxPool(kernel_size=1), x)
    x = net.add(Flatten(), x)
    x = net.add(Relu(), net.add(Linear(out_channels=6), x, name="fc1"))
    x = net.add(Dropout(), x)
    x = net.add(Linear(out_channels=5), x, name="fc2")
    return net.net(net.add(Softmax(), x, name="prob"))


def dense_blocks(height: int = 17, width: int = 15) -> Network:
    """DenseNet: BN, ReLU and conv, each result joined to all before it; averages in between."""
    net = Graph(height, width, "RGB", "dense_blocks")

    def before(x: str, channels: int, kernel: int) -> str:
        return net.conv(net.add(Relu(), net.add(BatchNorm(), x)), channels, kernel, act=None)

    x = net.conv(IMAGE, 4, act=None)
    for block in (1, 2):
        for _ in range(3):
            x = net.add(Concat(), x, before(before(x, 4, 1), 2, 3))
        if block == 1:
            x = net.add(AvgPool(), before(x, 5, 1))
    x = net.add(Relu(), net.add(BatchNorm(), x))
    x = net.add(Flatten(), net.add(GlobalAvgPool(), x, name="gap"))
    x = net.add(Linear(out_channels=5), x, name="fc")
    return net.net(net.add(Softmax(), x, name="prob"))


def two_heads(height: int = 16, width: int = 20) -> Network:
    """A trunk of depthwise convs, a head of FC layers, one of a conv and ``gap``, and two taps."""
    net = Graph(height, width, "RGB", "two_heads")
    x = net.conv(IMAGE, 6, 3, 2, norm=True, act=Relu6(), name="stem")
    tap = x
    x = net.add(DepthwiseConv(kernel_size=(3, 3), padding=(1, 1), bias=False), x)
    x = net.add(Relu6(), net.add(BatchNorm(), x))
    x = net.conv(x, 8, 1, norm=True, act=Relu6())
    inner = net.add(MaxPool(), x, name="trunk")
    x = net.add(Flatten(), inner)
    x = net.add(Relu(), net.add(Linear(out_channels=7), x, name="fc1"))
    one = net.add(Softmax(), net.add(Linear(out_channels=4), x, name="fc2"), name="prob")
    x = net.conv(inner, 5, 1, act=None)
    other = net.add(Softmax(), net.add(GlobalAvgPool(), x), name="aux")
    return net.net(prob=one, other=other, stem=tap, inner=inner)


NETS = {
    "residual": residual(),
    "residual-fc": residual(fc=True),
    "inception": inception(),
    "dense": dense_blocks(),
    "two heads": two_heads(),
}


def random_arrays(network: Network, seed: int = 0) -> Arrays:
    """Weights that keep numbers at about 1, and statistics of BN that change something."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for param in network.params():
        values = rng.standard_normal(param.stored)
        kind = param.name.rpartition(".")[2]
        if kind == "running_var":
            values = np.abs(values) + 0.5
        elif kind == "weight" and len(param.stored) == 1:
            values = 1 + 0.2 * values
        elif kind == "weight":
            values *= (2 / np.prod(param.stored[1:])) ** 0.5
        else:
            values *= 0.3
        arrays[param.name] = values.astype(np.float32)
    return arrays
