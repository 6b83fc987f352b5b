"""Ops on inputs that show what they do at their edges, each with its oracle."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.compiler.ops import oracle
from tests.compiler.ops.oracle import Array
from vggspec.compiler.ops.add import Add
from vggspec.compiler.ops.avg_pool import AvgPool
from vggspec.compiler.ops.batch_norm import BatchNorm
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.concat import Concat
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.crop import Crop
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
from vggspec.compiler.ops.resize import Resize
from vggspec.compiler.ops.silu import Silu
from vggspec.compiler.ops.softmax import Softmax
from vggspec.compiler.ops.up import Up
from vggspec.compiler.ops.upconv import UpConv
from vggspec.compiler.tensor import TensorType, Types


@dataclass(frozen=True)
class Sample:
    """An op, the shapes of one image's tensors, and what must come out."""

    op: Op
    shape: tuple[int, ...]
    expected: Callable[..., Array]
    """Takes the tensors, then the list of parameters."""

    others: tuple[tuple[int, ...], ...] = ()
    """The shapes of the tensors after the first."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.shape, *self.others)

    @property
    def types(self) -> Types:
        return tuple(map(TensorType, self.shapes))

    def __str__(self) -> str:
        shapes = "+".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.op!r}-{shapes}".replace(" ", "")


def _conv(op: Conv, shape: tuple[int, int, int]) -> Sample:
    def expected(x: Array, params: list[Array]) -> Array:
        return oracle.conv(
            x,
            params[0],
            params[1] if op.bias else None,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=op.groups,
        )

    return Sample(op, shape, expected)


def _dwconv(op: DepthwiseConv, shape: tuple[int, int, int]) -> Sample:
    return Sample(op, shape, _conv(op.of(shape[0]), shape).expected)


def _shortcut(op: PadShortcut, shape: tuple[int, int, int]) -> Sample:
    def expected(x: Array, _: list[Array]) -> Array:
        part = x[:, :: op.stride, :: op.stride]
        return np.concatenate([part, np.zeros((op.out_channels - shape[0], *part.shape[1:]))])

    return Sample(op, shape, expected)


def _pool(op: MaxPool, shape: tuple[int, int, int]) -> Sample:
    return Sample(
        op,
        shape,
        lambda x, _: oracle.pool(
            x,
            window=op.kernel_size,
            stride=op.stride,
            padding=op.padding,
            ceil=op.ceil,
            take="mean" if isinstance(op, AvgPool) else "max",
            dilation=op.dilation,
            end_padding=op.end_padding,
            count_pad=isinstance(op, AvgPool) and op.count_pad,
        ),
    )


def _lrn(op: Lrn, shape: tuple[int, int, int]) -> Sample:
    return Sample(
        op, shape, lambda x, _: oracle.lrn(x, n=op.n, k=op.k, alpha=op.alpha, beta=op.beta)
    )


def _norm(op: BatchNorm, shape: tuple[int, ...]) -> Sample:
    return Sample(op, shape, lambda x, p: oracle.batch_norm(x, *p, eps=op.eps))


def _upconv(op: UpConv, shape: tuple[int, int, int]) -> Sample:
    def expected(x: Array, params: list[Array]) -> Array:
        bias = params[1] if op.bias else None
        return oracle.upconv(
            x, params[0], bias, stride=op.stride, padding=op.padding, groups=op.groups
        )

    return Sample(op, shape, expected)


def _up(op: Up, shape: tuple[int, int, int]) -> Sample:
    height, width = (op.factor * n for n in shape[1:])
    return Sample(op, shape, lambda x, _: oracle.resized(x, height, width, nearest=not op.bilinear))


def _resize(shape: tuple[int, int, int], to: tuple[int, int], *, nearest: bool) -> Sample:
    return Sample(
        Resize(of="a", nearest=nearest),
        shape,
        lambda x, _, __: oracle.resized(x, *to, nearest=nearest),
        ((2, *to),),
    )


def _crop(shape: tuple[int, int, int], to: tuple[int, int], begin: tuple[int, int]) -> Sample:
    rows, columns = (slice(b, b + n) for b, n in zip(begin, to, strict=True))
    return Sample(
        Crop(of="a", offset=begin), shape, lambda x, _, __: x[:, rows, columns], ((1, *to),)
    )


POOLS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({}, (3, 8, 8)),
    ({}, (3, 7, 9)),
    ({"ceil": True}, (3, 7, 9)),
    ({"kernel_size": 3}, (2, 9, 12)),
    ({"kernel_size": 3, "ceil": True}, (2, 9, 12)),
    ({"kernel_size": 3, "ceil": True}, (2, 2, 3)),
    ({"kernel_size": 3, "padding": 1}, (2, 7, 8)),
    ({"kernel_size": 3, "padding": 1, "ceil": True}, (2, 7, 8)),
    ({"kernel_size": 3, "padding": 1, "ceil": True}, (2, 6, 5)),
    ({"kernel_size": 3, "stride": 1, "padding": 1}, (2, 5, 4)),
    ({"kernel_size": 2, "stride": 3, "ceil": True}, (2, 7, 6)),
    ({"kernel_size": 2, "stride": 3, "padding": 1, "ceil": True}, (1, 4, 5)),
    ({"kernel_size": 5, "stride": 4, "padding": 2, "ceil": True}, (1, 9, 14)),
    ({"kernel_size": 1, "stride": 2}, (2, 5, 6)),
]  # fmt: skip

#: As passes make them; no spec can.
DILATED: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({"stride": 1}, (3, 6, 7)),
    ({"stride": 1, "end_padding": 1}, (3, 6, 7)),
    ({"stride": 1, "dilation": 2}, (3, 6, 7)),
    ({"stride": 1, "dilation": 4, "end_padding": 4}, (2, 9, 8)),
    ({"stride": 2, "dilation": 3}, (2, 9, 8)),
    ({"stride": 3, "dilation": 2, "end_padding": 2}, (2, 9, 10)),
    ({"kernel_size": 3, "stride": 1, "dilation": 2, "padding": 2}, (2, 7, 5)),
    ({"kernel_size": 3, "stride": 1, "dilation": 2, "padding": 2, "end_padding": 4}, (2, 6, 7)),
    ({"kernel_size": 3, "stride": 2, "padding": 1, "end_padding": 2}, (2, 8, 7)),
    ({"kernel_size": 1, "stride": 1, "dilation": 2}, (2, 3, 4)),
]  # fmt: skip

SAMPLES = [
    _conv(Conv(kernel_size=(3, 3), out_channels=4, padding=(1, 1)), (3, 7, 6)),
    _conv(Conv(kernel_size=(1, 1), out_channels=5), (3, 4, 5)),
    _conv(Conv(kernel_size=(1, 7), out_channels=2, padding=(0, 3)), (3, 5, 8)),
    _conv(Conv(kernel_size=(5, 3), out_channels=2, stride=2, padding=(2, 0)), (2, 9, 8)),
    _conv(Conv(kernel_size=(3, 3), out_channels=4, dilation=2, padding=(2, 2)), (2, 7, 9)),
    _conv(Conv(kernel_size=(3, 3), out_channels=6, groups=2, padding=(1, 1)), (4, 5, 5)),
    _conv(Conv(kernel_size=(3, 3), out_channels=4, bias=False), (2, 6, 7)),
    _conv(Conv(kernel_size=(2, 2), out_channels=3, stride=3), (2, 8, 7)),
    *(_pool(MaxPool(**fields), shape) for fields, shape in POOLS),
    *(_pool(AvgPool(**fields), shape) for fields, shape in POOLS),
    *(
        _pool(AvgPool(count_pad=True, **fields), shape)
        for fields, shape in POOLS
        if "padding" in fields
    ),
    *(_pool(MaxPool(**fields), shape) for fields, shape in DILATED),
    _lrn(Lrn(), (12, 3, 4)),
    _lrn(Lrn(n=3, k=1.0, alpha=0.5, beta=0.5), (5, 4, 3)),
    _lrn(Lrn(n=9, alpha=0.1), (4, 2, 2)),
    _norm(BatchNorm(), (4, 3, 5)),
    _norm(BatchNorm(eps=0.1), (6,)),
    Sample(Linear(out_channels=5), (7,), lambda x, p: p[0] @ x + p[1]),
    Sample(Linear(out_channels=5, bias=False), (7,), lambda x, p: p[0] @ x),
    Sample(GlobalAvgPool(), (3, 5, 4), lambda x, _: x.mean((1, 2), keepdims=True)),
    Sample(Softmax(), (9,), lambda x, _: oracle.softmax(x)),
    Sample(Softmax(), (9, 2, 3), lambda x, _: oracle.softmax(x)),
    Sample(Softmax(per_position=True), (9, 2, 3), lambda x, _: oracle.softmax(x)),
    Sample(Boxes(), (8,), lambda x, _: x),
    _dwconv(DepthwiseConv(kernel_size=(3, 3), padding=(1, 1)), (4, 7, 6)),
    _dwconv(DepthwiseConv(kernel_size=(5, 3), stride=2, padding=(2, 0), bias=False), (3, 9, 8)),
    _dwconv(DepthwiseConv(kernel_size=(3, 3), dilation=2, padding=(2, 2)), (1, 7, 9)),
    Sample(Relu(), (3, 4, 5), lambda x, _: np.maximum(x, 0)),
    Sample(Relu6(), (3, 4, 5), lambda x, _: np.clip(x, 0, 6)),
    Sample(Silu(), (3, 4, 5), lambda x, _: x / (1 + np.exp(-x))),
    Sample(Add(), (3, 4, 5), lambda a, b, _: a + b, ((3, 4, 5),)),
    Sample(Add(), (6,), lambda a, b, c, _: a + b + c, ((6,), (6,))),
    Sample(Concat(), (3, 4, 5), lambda a, b, _: np.concatenate([a, b]), ((1, 4, 5),)),
    Sample(Concat(), (2,), lambda a, b, c, _: np.concatenate([a, b, c]), ((3,), (1,))),
    _shortcut(PadShortcut(out_channels=7, stride=2), (3, 5, 6)),
    _shortcut(PadShortcut(out_channels=3, stride=3), (3, 7, 4)),
    _upconv(UpConv(kernel_size=(4, 4), out_channels=3, stride=2, padding=(1, 1)), (2, 5, 4)),
    _upconv(UpConv(kernel_size=(2, 2), out_channels=4, stride=2, groups=2), (4, 3, 5)),
    _upconv(UpConv(kernel_size=(3, 1), out_channels=2, bias=False), (3, 1, 4)),
    _upconv(UpConv(kernel_size=(5, 3), out_channels=2, stride=3, padding=(2, 0)), (2, 4, 3)),
    _up(Up(factor=2), (2, 3, 5)),
    _up(Up(factor=3), (1, 1, 4)),
    _up(Up(factor=2, bilinear=True), (2, 3, 5)),
    _up(Up(factor=3, bilinear=True), (1, 1, 4)),
    *(
        _resize(shape, to, nearest=nearest)
        for nearest in (False, True)
        for shape, to in (((2, 3, 4), (7, 9)), ((2, 7, 9), (3, 4)), ((1, 1, 2), (5, 82)))
    ),
    _crop((3, 6, 7), (6, 7), (0, 0)),
    _crop((3, 6, 7), (2, 4), (1, 3)),
    Sample(Flatten(), (3, 4, 5), lambda x, _: x.reshape(-1)),
    Sample(Dropout(rate=0.5), (3, 4, 5), lambda x, _: x),
]
