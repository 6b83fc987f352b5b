"""Batch normalisation, written ``BN`` after the conv or FC that it belongs to.

Source: Ioffe & Szegedy 2015, algorithms 1 and 2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.compiler.ops.op import Names, Op, TorchNN, unless, with_options
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import Param, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNorm(Op):
    """``weight * (x - mean) / sqrt(var + eps) + bias`` for each channel.

    In   ``(C, H, W)`` or ``(C,)``
    Out  the same
    """

    keyword: ClassVar[str] = "BN"
    casts_params: ClassVar[bool] = False
    syntax: ClassVar[Syntax | None] = Syntax("BN", "", "`BN` alone")

    eps: float = 1e-5
    momentum: float = 0.1
    """The share of the new batch in the running statistics, as in PyTorch."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(
            eps=args.option_number("eps", 1e-5, 1e-12, 1.0),
            momentum=args.option_number("momentum", 0.1, 0.0, 1.0),
        )

    def write(self) -> str:
        usual = BatchNorm()
        return with_options(
            self.keyword,
            unless(usual.eps, "eps", self.eps),
            unless(usual.momentum, "momentum", self.momentum),
        )

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        (x,) = inputs
        shape = (x.channels,)
        return (
            Param(name=f"{name}.weight", shape=shape, stored=shape, start="one"),
            Param(name=f"{name}.bias", shape=shape, stored=shape, start="zero"),
            Param(
                name=f"{name}.running_mean",
                shape=shape,
                stored=shape,
                start="zero",
                is_trained=False,
            ),
            Param(
                name=f"{name}.running_var", shape=shape, stored=shape, start="one", is_trained=False
            ),
        )

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        (x,) = inputs
        module = nn.BatchNorm2d if x.is_map else nn.BatchNorm1d
        more = {}
        if self.eps != 1e-5:
            more["eps"] = self.eps
        if self.momentum != 0.1:
            more["momentum"] = self.momentum
        return module(x.channels, **more)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        about = graph.about(x)
        if about.precision == "fp32":
            return graph.node("BatchNormalization", (x, *params), name, epsilon=self.eps)
        # One factor and one offset a channel, made in fp32: a variance may pass the largest fp16
        # number and ``eps`` the smallest, and TensorRT's parser would round both.
        weight, bias, mean, var = params
        eps = graph.number(f"{name}.eps", self.eps)
        sum_ = graph.node("Add", (var, eps), f"{name}.var_eps")
        deviation = graph.node("Sqrt", (sum_,), f"{name}.deviation")
        factor = graph.node("Div", (weight, deviation), f"{name}.factor")
        shift = graph.node("Mul", (mean, factor), f"{name}.shift")
        offset = graph.node("Sub", (bias, shift), f"{name}.offset")
        if about.type.is_map:
            column = graph.integers(f"{name}.column", (1, -1, 1, 1))
            factor = graph.node("Reshape", (factor, column), f"{name}.factor_column")
            offset = graph.node("Reshape", (offset, column), f"{name}.offset_column")
        factor = graph.cast(factor, about.precision)
        offset = graph.cast(offset, about.precision)
        scaled = graph.node("Mul", (x, factor), f"{name}.scaled")
        return graph.node("Add", (scaled, offset), name)
