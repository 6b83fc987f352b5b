"""Specs for property tests: small, valid, and using everything the language has for layers."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.max_pool import MaxPool
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
