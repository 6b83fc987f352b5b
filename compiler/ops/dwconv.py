"""Depthwise convolution, written ``dwconv<receptive field>``: one filter for each channel.

Source: Howard et al. 2017, "MobileNets", section 3.1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.conv import Conv
from vggspec.compiler.ops.op import (
    Arithmetic,
    Names,
    Op,
    Reach,
    TorchNN,
    one_or_two,
    unless,
    with_options,
)
from vggspec.compiler.ops.syntax import MAX_SIDE, Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConv(Op):
    """2-D cross-correlation of each channel with a filter of its own.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``, rows and columns as those of a convolution
    """

    keyword: ClassVar[str] = "dwconv"
    is_weight_layer: ClassVar[bool] = True
    arithmetic: ClassVar[Arithmetic] = "chosen"
    syntax: ClassVar[Syntax | None] = Syntax(
        "dwconv",
        r"(?P<kernel>\d+(?:[x×]\d+)?)(?:/(?P<stride>\d+))?",
        "dwconv<receptive field>, such as `dwconv3` or `dwconv3/2`",
        ("", "/"),
    )

    kernel_size: tuple[int, int]
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    dilation: int = 1
    bias: bool = True
    linear: bool = False
    """Whether no activation follows."""

    plain: bool = False
    """Whether it stands alone, whatever a conv stands for in its net."""

    activated: bool = False
    """Whether an activation follows even where no other weight layer does."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        kernel = args.size("kernel", (3, 3), "a receptive field of", 1, MAX_SIDE)
        dilation = args.option_integer("dilation", 1, 1, MAX_SIDE)
        padding = args.option_size("pad", None, 0, MAX_SIDE)
        if padding is None:
            if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
                args.problem(shapes.EvenKernel(kernel=kernel))
            padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
        return cls(
            kernel_size=kernel,
            stride=args.integer("stride", 1, "a stride of", 1, MAX_SIDE),
            padding=padding,
            dilation=dilation,
            bias=not args.flag("no-bias"),
            linear=args.flag("linear"),
            plain=args.flag("plain"),
            activated=args.flag("activated"),
        )

    def of(self, channels: int) -> Conv:
        """The convolution with as many groups as there are channels."""
        return Conv(
            kernel_size=self.kernel_size,
            out_channels=channels,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=channels,
            bias=self.bias,
            linear=self.linear,
            plain=self.plain,
            activated=self.activated,
        )

    def write(self) -> str:
        same = tuple(self.dilation * (k - 1) // 2 for k in self.kernel_size)
        is_same = self.padding == same and all(k % 2 for k in self.kernel_size)
        return with_options(
            f"dwconv{one_or_two(self.kernel_size)}"
            + ("" if self.stride == 1 else f"/{self.stride}"),
            "" if is_same else f"pad {one_or_two(self.padding)}",
            unless(1, "dilation", self.dilation),
            "linear" if self.linear else "",
            "plain" if self.plain else "",
            "activated" if self.activated else "",
            "" if self.bias else "no-bias",
        )

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        return self.of(x.channels).infer(inputs)

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        return self.of(inputs[0].channels).params(inputs, name)

    def macs(self, inputs: Types, y: TensorType) -> int:
        return self.of(inputs[0].channels).macs(inputs, y)

    def reach(self, inputs: Types) -> Reach:
        return self.of(inputs[0].channels).reach(inputs)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return self.of(inputs[0].channels).to_torch(nn, inputs)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        return self.of(graph.about(inputs[0]).type.channels).to_onnx(graph, inputs, params, name)
