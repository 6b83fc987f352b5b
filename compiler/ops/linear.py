"""Fully connected layer, written ``FC-<channels>``.

Source: Simonyan & Zisserman 2015, section 2.1 and Table 1. Applied densely it is a convolution
(section 3.2): ``compiler/passes/fc_to_conv.py``.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.compiler.ops.op import Arithmetic, Names, Op, TorchNN, with_options
from vggspec.compiler.ops.syntax import MAX_CHANNELS, Arguments, Syntax
from vggspec.compiler.tensor import Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Op):
    """Every output is a weighted sum of every input.

    In   ``(C,)``
    Out  ``(out_channels,)``
    """

    keyword: ClassVar[str] = "FC"
    is_weight_layer: ClassVar[bool] = True
    arithmetic: ClassVar[Arithmetic] = "chosen"
    syntax: ClassVar[Syntax | None] = Syntax(
        "FC", r"-(?P<channels>\d+)", "FC-<channels>, such as `FC-4096`", ("-",)
    )

    out_channels: int
    bias: bool = True
    linear: bool = False
    """Whether no activation follows."""

    activated: bool = False
    """Whether an activation follows even where no other weight layer does."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(
            out_channels=args.integer("channels", 1, "a number of channels of", 1, MAX_CHANNELS),
            bias=not args.flag("no-bias"),
            linear=args.flag("linear"),
            activated=args.flag("activated"),
        )

    def write(self) -> str:
        return with_options(
            f"FC-{self.out_channels}",
            "linear" if self.linear else "",
            "activated" if self.activated else "",
            "" if self.bias else "no-bias",
        )

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        assert not x.is_map, "lowering flattens the map before the first FC"
        return TensorType((self.out_channels,))

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        (x,) = inputs
        shape, out = (self.out_channels, x.channels), (self.out_channels,)
        weight = Param(name=f"{name}.weight", shape=shape, stored=shape, start="random")
        bias = Param(name=f"{name}.bias", shape=out, stored=out, start="zero")
        return (weight, bias) if self.bias else (weight,)

    def macs(self, inputs: Types, y: TensorType) -> int:
        (x,) = inputs
        return x.channels * y.channels

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        (x,) = inputs
        more = {} if self.bias else {"bias": False}
        return nn.Linear(x.channels, self.out_channels, **more)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Gemm", (x, *params), name, transB=1)
