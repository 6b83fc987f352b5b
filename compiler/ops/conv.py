"""Convolution, written ``conv<receptive field>-<channels>``.

Source: Simonyan & Zisserman 2015, section 2.1 (stride 1, padding that keeps the resolution) and
Table 1; ``groups`` as in Krizhevsky et al. 2012, section 3.2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import (
    Arithmetic,
    Names,
    Op,
    Reach,
    TorchNN,
    one_or_two,
    unless,
    windowed,
    with_options,
)
from vggspec.compiler.ops.syntax import MAX_CHANNELS, MAX_SIDE, Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyConv(Op):
    """What a convolution and a depthwise one have in common: the window, and what follows."""

    is_weight_layer: ClassVar[bool] = True
    arithmetic: ClassVar[Arithmetic] = "chosen"

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

    @staticmethod
    def read_fields(args: Arguments) -> dict[str, Any]:
        """The fields above for a layer of a spec; mistakes are reported to ``args``."""
        kernel = args.size("kernel", (3, 3), "a receptive field of", 1, MAX_SIDE)
        dilation = args.option_integer("dilation", 1, 1, MAX_SIDE)
        padding = args.option_size("pad", None, 0, MAX_SIDE)
        if padding is None:
            if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
                args.problem(shapes.EvenKernel(kernel=kernel))
            padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
        return {
            "kernel_size": kernel,
            "stride": args.integer("stride", 1, "a stride of", 1, MAX_SIDE),
            "padding": padding,
            "dilation": dilation,
        }

    @staticmethod
    def read_flags(args: Arguments) -> dict[str, Any]:
        """What follows the layer, and whether it has a bias."""
        return {
            "bias": not args.flag("no-bias"),
            "linear": args.flag("linear"),
            "plain": args.flag("plain"),
            "activated": args.flag("activated"),
        }

    def written(self, channels: str, *more: str) -> str:
        """The layer as one would write it; ``channels`` and ``more`` are what the kind adds."""
        same = tuple(self.dilation * (k - 1) // 2 for k in self.kernel_size)
        is_same = self.padding == same and all(k % 2 for k in self.kernel_size)
        return with_options(
            f"{self.keyword}{one_or_two(self.kernel_size)}{channels}"
            + ("" if self.stride == 1 else f"/{self.stride}"),
            "" if is_same else f"pad {one_or_two(self.padding)}",
            unless(1, "dilation", self.dilation),
            *more,
            "linear" if self.linear else "",
            "plain" if self.plain else "",
            "activated" if self.activated else "",
            "" if self.bias else "no-bias",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(AnyConv):
    """2-D cross-correlation.

    In   ``(C, H, W)``
    Out  ``(out_channels, H', W')``, ``H' = (H + 2 pad - dilation (kernel - 1) - 1) // stride + 1``
    """

    keyword: ClassVar[str] = "conv"
    syntax: ClassVar[Syntax | None] = Syntax(
        "conv",
        r"(?P<kernel>\d+(?:[x×]\d+)?)-(?P<channels>\d+)(?:/(?P<stride>\d+))?",
        "conv<receptive field>-<channels>, such as `conv3-64`",
        ("", "-", "/"),
    )

    out_channels: int
    groups: int = 1
    fc_shape: tuple[int, ...] | None = None
    """For an FC layer applied as a convolution: the shape of its weight in the weights file."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(
            **cls.read_fields(args),
            out_channels=args.integer("channels", 1, "a number of channels of", 1, MAX_CHANNELS),
            groups=args.option_integer("groups", 1, 1, MAX_CHANNELS),
            **cls.read_flags(args),
        )

    def write(self) -> str:
        return self.written(f"-{self.out_channels}", unless(1, "groups", self.groups))

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer="conv", shape=x.shape))
        if x.channels % self.groups or self.out_channels % self.groups:
            raise MisfitError(
                shapes.Groups(
                    groups=self.groups, channels_in=x.channels, channels_out=self.out_channels
                )
            )
        size = []
        for n, k, pad in zip(x.size, self.kernel_size, self.padding, strict=True):
            room = n + 2 * pad - self.dilation * (k - 1) - 1
            if room < 0:
                raise MisfitError(shapes.WindowTooLarge(window=self.kernel_size, shape=x.shape))
            size.append(room // self.stride + 1)
        return TensorType((self.out_channels, *size))

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        (x,) = inputs
        shape = (self.out_channels, x.channels // self.groups, *self.kernel_size)
        weight = Param(
            name=f"{name}.weight", shape=shape, stored=self.fc_shape or shape, start="random"
        )
        out = (self.out_channels,)
        bias = Param(name=f"{name}.bias", shape=out, stored=out, start="zero")
        return (weight, bias) if self.bias else (weight,)

    def macs(self, inputs: Types, y: TensorType) -> int:
        (x,) = inputs
        height, width = self.kernel_size
        return y.num_elements * (x.channels // self.groups) * height * width

    def reach(self, inputs: Types) -> Reach:
        height, width = ((k - 1) * self.dilation + 1 for k in self.kernel_size)
        start = (-self.padding[0], -self.padding[1])
        return Reach((height, width), (self.stride, self.stride), start)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        (x,) = inputs
        return windowed(nn.Conv2d, self, x.channels, dilation=self.dilation)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        vertical, horizontal = self.padding
        return graph.node(
            "Conv",
            (x, *params),
            name,
            kernel_shape=list(self.kernel_size),
            strides=[self.stride, self.stride],
            pads=[vertical, horizontal, vertical, horizontal],
            dilations=[self.dilation, self.dilation],
            group=self.groups,
        )
