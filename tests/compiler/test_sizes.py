"""For which sizes branches meet: proven from one period, tried here over several."""

from contextlib import suppress
from dataclasses import dataclass, field
from math import prod

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nets import SMALL, net
from tests.refusals import refused
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.sizes import Remainders, Sizes, fits
from vggspec.compiler.backends.torch import module as torch_module
from vggspec.compiler.ir import IMAGE, Builder, ImageInput, Network, Node, Output
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
from vggspec.compiler.ops.global_avg_pool import GlobalAvgPool
from vggspec.compiler.ops.max_pool import MaxPool
from vggspec.compiler.ops.op import Op
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.up import Up
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.passes import FcToConv
from vggspec.compiler.sizes import sizes

CHANNELS = 2


def conv(kernel: int, stride: int = 1, pad: int | None = None) -> Conv:
    side = kernel // 2 if pad is None else pad
    return Conv(
        kernel_size=(kernel, kernel), out_channels=CHANNELS, stride=stride, padding=(side, side)
    )


@dataclass
class Grown:
    """A net while it grows."""

    builder: Builder
    last: str = IMAGE
    names: list[str] = field(default_factory=list)

    def add(self, op: Op, *inputs: str) -> str:
        name = f"layer{len(self.names)}"
        self.builder.add(Node(name=name, op=op, inputs=inputs or (self.last,)))
        self.names.append(name)
        self.last = name
        return name

    def finish(self) -> Network:
        return self.builder.finish([Output("scores", self.last)])


def grown(height: int, width: int) -> Grown:
    return Grown(Builder("grown", ImageInput(height=height, width=width, color="gray")))


def window(draw: st.DrawFn, strides: tuple[int, ...]) -> Op:
    """A conv or a pooling, with windows, paddings and roundings of all kinds."""
    stride = draw(st.sampled_from(strides))
    if draw(st.booleans()):
        kernel = draw(st.sampled_from(((1, 1), (2, 2), (3, 3), (1, 5), (3, 1), (4, 2))))
        padding = tuple(draw(st.integers(0, k // 2 + 1)) for k in kernel)
        return Conv(
            kernel_size=kernel,
            out_channels=CHANNELS,
            stride=stride,
            padding=(padding[0], padding[1]),
            dilation=draw(st.sampled_from((1, 1, 2))),
        )
    kernel = draw(st.integers(1, 4))
    kind = draw(st.sampled_from((MaxPool, AvgPool)))
    return kind(
        kernel_size=kernel,
        stride=stride,
        padding=draw(st.integers(0, kernel // 2)),
        ceil=draw(st.booleans()),
    )


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    """Nets with residual and concatenating brackets, one in another at times."""
    net = grown(draw(st.integers(24, 60)), draw(st.integers(24, 60)))
    with suppress(VggspecError):  # what no longer fits is left out
        net.add(conv(3))
        for _ in range(draw(st.integers(1, 3))):
            bracket(draw, net, draw(st.sampled_from(((1,), (2,), (3,), (2, 2), (2, 3)))))
    net.last = net.names[-1]
    return net.finish()


def bracket(draw: st.DrawFn, net: Grown, strides: tuple[int, ...]) -> None:
    begin = net.last
    ends: list[str] = []
    for _ in range(draw(st.integers(2, 3))):
        net.last = begin
        if draw(st.integers(0, 4)) == 0:
            net.add(PadShortcut(out_channels=CHANNELS, stride=prod(strides)))
        for each in draw(st.permutations(strides)) if net.last == begin else ():
            if len(strides) > 1 and draw(st.integers(0, 3)) == 0:
                bracket(draw, net, (each,))
            else:
                net.add(window(draw, (each,)))
        if ends:
            made_equal(net, ends[0])
        ends.append(net.last)
    op = draw(st.sampled_from((Add, Concat)))
    net.add(op(), *ends)
    if op is Concat:
        net.add(conv(1))


@st.composite
def hourglasses(draw: st.DrawFn) -> Network:
    """Nets whose maps become coarser and finer again, cut or resized to maps of their strides."""
    net = grown(draw(st.integers(24, 60)), draw(st.integers(24, 60)))
    with suppress(VggspecError):  # what no longer fits is left out
        net.add(conv(3))
        strides = draw(st.sampled_from(((2,), (3,), (2, 2), (2, 3), (3, 2))))
        skips = []
        for each in strides:
            skips.append(net.last)
            net.add(window(draw, (each,)))
            net.add(conv(3, pad=draw(st.integers(0, 2))))
        for each, skip in zip(reversed(strides), reversed(skips), strict=True):
            net.add(larger(draw, each))
            cut_or_resized(draw, net, skip)
    net.last = net.names[-1]
    return net.finish()


def larger(draw: st.DrawFn, stride: int) -> Op:
    if draw(st.integers(0, 2)) == 0:
        return Up(factor=stride, bilinear=draw(st.booleans()))
    kernel = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    return UpConv(kernel_size=kernel, out_channels=CHANNELS, stride=stride, padding=padding)


def cut_or_resized(draw: st.DrawFn, net: Grown, skip: str) -> None:
    """Join the last map and one of its stride, one of them made to fit the other."""
    rows = {name: net.builder.type_of(name).size for name in (net.last, skip)}
    first, second = sorted(rows, key=lambda name: min(rows[name]), reverse=True)
    room = [n - m for n, m in zip(rows[first], rows[second], strict=True)]
    op: Op = Resize(of=second, nearest=draw(st.booleans()))
    if min(room) >= 0 and draw(st.integers(0, 7)) > 0:
        begin = [draw(st.integers(0, each)) for each in room]
        op = Crop(of=second, offset=(begin[0], begin[1]))
    fitted = net.add(op, first, second)
    if draw(st.booleans()):
        net.add(draw(st.sampled_from((Add, Concat)))(), fitted, second)
    net.add(conv(1))


def made_equal(net: Grown, other: str) -> None:
    """Give the last map the rows and columns that another one has, for the net's own input."""
    wanted, found = (net.builder.type_of(name).size for name in (other, net.last))
    if wanted == found:
        return
    missing = [want - have for want, have in zip(wanted, found, strict=True)]
    kernel = [1 - d if d < 0 else 1 + d % 2 for d in missing]
    padding = [(d + k - 1) // 2 for d, k in zip(missing, kernel, strict=True)]
    net.add(
        Conv(
            kernel_size=(kernel[0], kernel[1]),
            out_channels=CHANNELS,
            padding=(padding[0], padding[1]),
        )
    )


def tried(network: Network, axis: int, n: int) -> bool:
    """Whether the whole net can be built at another size."""
    size = list(network.input.type.size)
    size[axis] = n
    try:
        network.at(*size)
    except VggspecError:
        return False
    return True


def runs(module: torch.nn.Module, height: int, width: int) -> bool:
    try:
        module(torch.zeros(1, 1, height, width))
    except RuntimeError:
        return False
    return True


@settings(max_examples=90, deadline=None)
@given(st.one_of(graphs(), hourglasses()))
def test_one_period_proves_all(network: Network) -> None:
    found = sizes(network)
    for axis in (0, 1):
        least = found.least[axis]
        period = 1 if found.sizes == "any" else found.sizes.axes[axis].period
        # The first sizes one by one, some periods, and a period far away.
        for n in (*range(1, least + 3 * period + 5), *range(997, 998 + period)):
            fit = n >= least and (found.sizes == "any" or found.sizes.axes[axis].holds(n))
            assert tried(network, axis, n) == fit, (axis, n, found)


@settings(max_examples=25, deadline=None)
@given(st.one_of(graphs(), hourglasses()))
def test_pytorch_agrees(network: Network) -> None:
    found = sizes(network)
    module = torch_module.emit(network).eval()
    height, width = found.least
    with torch.inference_mode():
        for more in range(13):
            size = height + more, width + 2 * more
            # PyTorch adds one row to any number of rows, so it takes more than we do.
            assert runs(module, *size) >= fits(found.sizes, size)
            if fits(found.sizes, size):
                expected = network.at(*size).type_of(network.outputs[0].layer).shape
                assert tuple(module(torch.zeros(1, 1, *size)).shape[1:]) == expected


def skipping(pool: MaxPool, times: int = 3) -> Network:
    """FCN's shape: a map of a stride and one of twice it, taken from both sides of a pooling."""
    net = grown(32, 32)
    net.add(conv(3))
    for _ in range(times):
        begin = net.last
        left = net.add(pool, begin)
        right = net.add(conv(3, 2), begin)
        net.add(Add(), left, right)
    return net.finish()


def test_rounding_down_and_rounding_up_meet_at_even_sizes() -> None:
    """Three times a pooling that rounds down beside a conv that rounds up."""
    found = sizes(skipping(MaxPool()))
    multiples = Remainders(8, (0,))
    assert found.sizes == Sizes(multiples, multiples)
    assert found.least == (8, 8)
    assert str(found.sizes) == "multiples of 8"
    up = sizes(skipping(MaxPool(ceil=True)))
    assert (up.sizes, up.least) == ("any", (1, 1))


def test_axes_are_apart() -> None:
    net = grown(16, 16)
    left = net.add(MaxPool(kernel_size=1), IMAGE)
    wide = Conv(kernel_size=(1, 2), out_channels=1, stride=2)
    right = net.add(wide, IMAGE)
    net.add(Concat(), left, right)
    found = sizes(net.finish())
    assert found.sizes == Sizes(Remainders(1, (0,)), Remainders(2, (0,)))
    assert found.least == (1, 2)
    assert str(found.sizes) == "rows any, columns multiples of 2"


def test_residual_nets_take_any_size() -> None:
    net = grown(64, 64)
    net.add(conv(7, 2))
    net.add(MaxPool(kernel_size=3, padding=1))
    for stride in (1, 2, 2, 2):
        begin = net.last
        net.add(conv(3, stride))
        branch = net.add(conv(3))
        short = net.add(conv(1, stride), begin)
        net.add(Add(), branch, short)
    assert sizes(net.finish()).sizes == "any"


def test_a_column_takes_any_size() -> None:
    network = FcToConv()(net(SMALL).network)
    found = sizes(network)
    assert found.sizes == "any"
    assert found.least == (32, 32)


def test_strides_that_differ_are_refused() -> None:
    net = grown(4, 4)
    net.add(Concat(), net.add(conv(3, 2), IMAGE), net.add(MaxPool(kernel_size=1, stride=3), IMAGE))
    with refused("VGG271.*layer2.*every") as error:
        sizes(net.finish())
    assert "every 2 and every 3 pixels" in error.value.reports[0].what.title()


def test_an_average_beside_a_map_is_refused() -> None:
    net = grown(2, 2)
    net.add(Concat(), net.add(conv(3, 2), IMAGE), net.add(GlobalAvgPool(), IMAGE))
    with refused("VGG271") as error:
        sizes(net.finish())
    assert "one branch is averaged" in error.value.reports[0].what.title()


def test_joined_averages_meet() -> None:
    net = grown(9, 9)
    left = net.add(GlobalAvgPool(), net.add(conv(3, 2), IMAGE))
    right = net.add(GlobalAvgPool(), net.add(conv(3, 3), IMAGE))
    net.add(Concat(), left, right)
    assert sizes(net.finish()).sizes == "any"


def test_a_long_period_is_refused() -> None:
    net = grown(9801, 9801)
    left = net.add(conv(1, 99), net.add(conv(1, 99), IMAGE))
    right = net.add(conv(1, 9801, 0), IMAGE)
    net.add(Add(), left, right)
    with refused("VGG261.*a period of 9801 pixels, more than 4096"):
        sizes(net.finish())


def test_an_activation_between_is_no_matter() -> None:
    net = grown(8, 8)
    left = net.add(Relu(), net.add(MaxPool(), IMAGE))
    right = net.add(PadShortcut(out_channels=1, stride=2), IMAGE)
    net.add(Concat(), left, right)
    assert str(sizes(net.finish()).sizes) == "multiples of 2"
