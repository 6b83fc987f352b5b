"""Specs and graphs for property tests: small, valid, and using all kinds of layers."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tests.graphs import Graph
from vggspec.base.diagnostic import VggspecError
from vggspec.compiler.ir import IMAGE, Network
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
from vggspec.compiler.ops.pad_shortcut import PadShortcut
from vggspec.compiler.ops.relu import Relu
from vggspec.compiler.ops.relu6 import Relu6
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.tensor import MisfitError, TensorType

CHANNELS = (1, 2, 4, 6, 8)

_NUMBERS = ("64", "{c}", "{4*c}", "{ in / 2 }", "{c + s}")


@st.composite
def bracket_texts(draw: st.DrawFn, depth: int = 2) -> str:
    """The text of a bracket; its layers are words of the language, not a net that fits."""
    sign = draw(st.sampled_from((" + ", " & ")))
    branches = draw(st.lists(branch_texts(depth), min_size=1, max_size=3))
    repeat = draw(st.sampled_from(("", "", " x2", " x{n}")))
    return f"[{sign.join(branches)}]{repeat}" + draw(st.sampled_from(("", "", " as part")))


@st.composite
def branch_texts(draw: st.DrawFn, depth: int = 2) -> str:
    """The text of a branch: layers and brackets in it, from where it begins on or elsewhere."""
    items = []
    for _ in range(draw(st.integers(1, 3))):
        if depth and draw(st.integers(0, 3)) == 0:
            items.append(draw(bracket_texts(depth - 1)))
            continue
        number = draw(st.sampled_from(_NUMBERS))
        plain = ("identity", "BN", "ReLU", "fire(16, 64)", "maxpool3/2(ceil)")
        conv = f"conv3-{number}" + draw(st.sampled_from(("", "/2(once)", "/{s}(once, pad {p})")))
        items.append(draw(st.sampled_from((conv, conv, *plain))))
    source = draw(st.sampled_from(("", "", "from pool4 ", "from {skip} ")))
    return source + " ".join(items)


@st.composite
def block_texts(draw: st.DrawFn, name: str) -> str:
    """The text of a block called ``name``."""
    head = f"block {name}" + draw(st.sampled_from(("", "(c)", "(c, s = 1, p = 0)"))) + ":"
    sign = draw(st.sampled_from("+&"))
    lines = [draw(branch_texts(1))]
    for _ in range(draw(st.integers(0, 3))):
        more = draw(branch_texts(1))
        continues = draw(st.booleans()) and not more.startswith("from")
        lines.append(more if continues else f"{sign} {more}")
    return "\n".join((head, *(f"  {line}" for line in lines)))


@dataclass
class _Column:
    """A net while it grows: its lines and the feature map that they end in."""

    map: TensorType
    lines: list[str] = field(default_factory=list)


@st.composite
def net_texts(draw: st.DrawFn) -> str:
    """The text of one net, ``net sample``, that lowers and runs on images of 8 to 40 pixels."""
    height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    color = draw(st.sampled_from(("RGB", "BGR", "gray")))
    channels = 1 if color == "gray" else 3
    options = draw(st.sampled_from(("", "(mean 100)", "(mean 100, std 50)", "(scale 1/255)")))
    if color == "RGB" and draw(st.booleans()):
        options = "(mean 123.68 116.779 103.939)"
    column = _Column(TensorType((channels, height, width)))
    for _ in range(draw(st.integers(1, 6))):
        draw(st.sampled_from((_conv, _conv, _pool)))(draw, column)
    _head(draw, column)
    return "\n".join(["net sample", f"input {height}x{width} {color}{options}", *column.lines, ""])


def _conv(draw: st.DrawFn, column: _Column) -> None:
    kernel = draw(st.sampled_from(((1, 1), (3, 3), (5, 5), (2, 2), (1, 3), (5, 1), (3, 7))))
    out = draw(st.sampled_from(CHANNELS))
    stride = draw(st.sampled_from((1, 1, 1, 2)))
    dilation = draw(st.sampled_from((1, 1, 2)))
    groups = draw(st.sampled_from([n for n in (1, 2, 3) if not column.map.channels % n]))
    groups = groups if out % groups == 0 else 1
    same = tuple(dilation * (k - 1) // 2 for k in kernel)
    pad = same
    options = []
    if 2 in kernel or draw(st.integers(0, 3)) == 0:
        pad = (draw(st.integers(0, 3)),) * 2
        options.append(f"pad {pad[0]}")
    options += [f"dilation {dilation}"] * (dilation > 1) + [f"groups {groups}"] * (groups > 1)
    options += [word for word in ("linear", "no-bias") if draw(st.integers(0, 5)) == 0]
    op = Conv(
        kernel_size=kernel,
        out_channels=out,
        stride=stride,
        padding=pad,
        dilation=dilation,
        groups=groups,
    )
    try:
        column.map = op.infer((column.map,))
    except MisfitError:
        return
    word = f"conv{kernel[0]}" + ("" if kernel[0] == kernel[1] else f"x{kernel[1]}") + f"-{out}"
    text = word + (f"/{stride}" if stride > 1 else "")
    text += f"({', '.join(options)})" if options else ""
    keeps_size = pad == same and stride == 1 and all(k % 2 for k in kernel)
    if keeps_size and out == column.map.channels and draw(st.integers(0, 4)) == 0:
        text += " x2"
    elif draw(st.integers(0, 5)) == 0:
        text += f" as layer{len(column.lines)}"
    extra = draw(st.sampled_from(("", "", "BN", "BN(eps 0.001)", "LRN", "LRN(n 3, k 1.0)")))
    column.lines.append(f"{text} {extra}".strip())


def _pool(draw: st.DrawFn, column: _Column) -> None:
    word, kind = draw(st.sampled_from((("maxpool", MaxPool), ("avgpool", AvgPool))))
    window, stride = draw(st.sampled_from(((2, 2), (2, 2), (3, 2), (2, 1), (3, 3))))
    pad, ceil = draw(st.integers(0, 1)), draw(st.booleans())
    try:
        column.map = kind(kernel_size=window, stride=stride, padding=pad, ceil=ceil).infer(
            (column.map,)
        )
    except MisfitError:
        return
    text = word if window == stride == 2 else f"{word}{window}/{stride}"
    options = [f"pad {pad}"] * (pad > 0) + ["ceil"] * ceil
    if kind is AvgPool and pad > 0 and draw(st.booleans()):
        options.append("count-pad")
    column.lines.append(text + (f"({', '.join(options)})" if options else ""))


def _head(draw: st.DrawFn, column: _Column) -> None:
    if draw(st.booleans()):
        column.lines.append("gap")
    for _ in range(draw(st.integers(0, 2))):
        extra = draw(st.sampled_from(("", "", " BN", " dropout(0.3)")))
        column.lines.append(f"FC-{draw(st.integers(1, 12))}{extra}")
    if not column.lines or draw(st.integers(0, 3)):
        column.lines.append("FC-5")
    if draw(st.booleans()):
        column.lines.append("soft-max")


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A net built on the IR: branches, joins of two to four, fan-out, taps and several heads.

    Every end is an output.
    """
    color = draw(st.sampled_from(("RGB", "gray")))
    net = Graph(draw(st.integers(7, 19)), draw(st.integers(7, 19)), color)
    maps = [IMAGE]
    steps = (_any_conv, _any_conv, _any_pool, _any_join, _any_join, _any_other)
    for _ in range(draw(st.integers(2, 9))):
        x = maps[-1] if draw(st.booleans()) else draw(st.sampled_from(maps))
        try:
            maps.append(draw(st.sampled_from(steps))(draw, net, x, maps))
        except VggspecError:
            continue  # it does not fit; nothing was added of what does not
    read = net.read()
    ends = [name for name in maps[1:] if name not in read] or [net.conv(IMAGE, 3)]
    results = {f"head{i}": _any_head(draw, net, end) for i, end in enumerate(ends)}
    taps = [name for name in maps[1:] if name in net.read()]
    if taps:
        chosen = draw(st.lists(st.sampled_from(taps), max_size=2, unique=True))
        results |= {f"tap{i}": tap for i, tap in enumerate(chosen)}
    return net.net(*results.values()) if len(results) == 1 else net.net(**results)


def _any_conv(draw: st.DrawFn, net: Graph, x: str, _: list[str]) -> str:
    kernel = draw(st.sampled_from(((1, 1), (3, 3), (2, 2), (1, 3))))
    dilation = draw(st.sampled_from((1, 1, 2)))
    pad = tuple(draw(st.sampled_from((dilation * (k - 1) // 2, 0))) for k in kernel)
    more: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": draw(st.sampled_from((1, 1, 2))),
        "padding": pad,
        "dilation": dilation,
        "bias": draw(st.booleans()),
    }
    channels = draw(st.sampled_from((2, 4, 6)))
    if draw(st.integers(0, 3)) == 0:
        x = net.add(DepthwiseConv(**more), x)
    else:
        groups = 2 if net.type_of(x).channels % 2 == 0 and draw(st.booleans()) else 1
        x = net.add(Conv(out_channels=channels, groups=groups, **more), x)
    if draw(st.integers(0, 2)) == 0:
        x = net.add(BatchNorm(), x)
    act = draw(st.sampled_from((None, Relu(), Relu(), Relu6(), Silu())))
    return x if act is None else net.add(act, x)


def _any_pool(draw: st.DrawFn, net: Graph, x: str, _: list[str]) -> str:
    kind = draw(st.sampled_from((MaxPool, AvgPool)))
    window, stride = draw(st.sampled_from(((2, 2), (3, 2), (3, 1), (2, 1), (3, 3))))
    pad = draw(st.integers(0, window // 2))
    ceil = draw(st.booleans())
    more = {"count_pad": draw(st.booleans())} if kind is AvgPool and pad > 0 else {}
    return net.add(kind(kernel_size=window, stride=stride, padding=pad, ceil=ceil, **more), x)


def _any_join(draw: st.DrawFn, net: Graph, x: str, maps: list[str]) -> str:
    """A sum or a concatenation with maps that fit, or with branches that begin at one tensor."""
    kind = net.type_of(x)
    number = draw(st.integers(1, 3))
    if draw(st.booleans()):
        fitting = [name for name in maps if net.type_of(name) == kind]
        others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=number))
        return net.add(Add(), x, *others)
    fitting = [name for name in maps if net.type_of(name).size == kind.size]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=number))
    return net.add(Concat(), x, *others)


def _any_other(draw: st.DrawFn, net: Graph, x: str, _: list[str]) -> str:
    channels = net.type_of(x).channels
    shortcut = PadShortcut(
        out_channels=channels + draw(st.integers(0, 2)), stride=draw(st.integers(1, 2))
    )
    op = draw(
        st.sampled_from((Lrn(n=3), BatchNorm(), Relu(), Relu6(), Silu(), Dropout(), shortcut))
    )
    if x == IMAGE and isinstance(op, Dropout):
        op = Relu()  # without it a tap of it would be the image
    return net.add(op, x)


def _any_head(draw: st.DrawFn, net: Graph, x: str) -> str:
    kind = draw(st.sampled_from(("map", "gap", "gap FC", "FC", "FC FC")))
    if kind == "map":
        return x
    if "gap" in kind:
        x = net.add(GlobalAvgPool(), x)
    if "FC" in kind:
        x = net.add(Flatten(), x)
        if draw(st.integers(0, 3)) == 0:
            x = net.add(draw(st.sampled_from((Relu(), Dropout()))), x)
        x = net.add(Linear(out_channels=draw(st.integers(2, 5))), x)
    if kind == "FC FC":
        if draw(st.booleans()):
            x = net.add(BatchNorm(), x)
        x = net.add(Relu(), x)
        if draw(st.booleans()):
            x = net.add(Dropout(), x)
        x = net.add(Linear(out_channels=3, bias=draw(st.booleans())), x)
    return x if draw(st.booleans()) else net.add(Softmax(), x)
