"""Transposed convolution, written ``upconv<window>-<channels>/<stride>``: a map becomes finer.

Source: Long, Shelhamer & Darrell 2015, section 3.3 ("upsampling is backwards strided convolution");
Ronneberger, Fischer & Brox 2015, figure 1 ("up-conv 2 × 2").
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import maps, shapes
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
class UpConv(Op):
    """The transpose of a convolution: each input position adds a window to the output.

    In   ``(C, H, W)``
    Out  ``(out_channels, H', W')``, ``H' = (H - 1) stride - 2 pad + window``

    It interpolates, so no activation is implied after it.
    """

    keyword: ClassVar[str] = "upconv"
    syntax: ClassVar[Syntax | None] = Syntax(
        "upconv",
        r"(?P<kernel>\d+(?:[x×]\d+)?)-(?P<channels>\d+)(?:/(?P<stride>\d+))?",
        "upconv<window>-<channels>/<stride>, such as `upconv4-21/2`",
        ("", "-", "/"),
    )
    is_weight_layer: ClassVar[bool] = True
    arithmetic: ClassVar[Arithmetic] = "chosen"
    has_bf16: ClassVar[bool] = False  # TensorRT-RTX 1.7 builds no transposed convolution in it

    kernel_size: tuple[int, int]
    out_channels: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    bias: bool = True

    @classmethod
    def read(cls, args: Arguments) -> Self:
        kernel = args.size("kernel", (4, 4), "a window of", 1, MAX_SIDE)
        stride = args.integer("stride", 1, "a stride of", 1, MAX_SIDE)
        padding = args.option_size("pad", None, 0, MAX_SIDE)
        if padding is None:
            if any(k < stride or (k - stride) % 2 for k in kernel):
                args.problem(maps.UpconvPadding(window=kernel, stride=stride))
            padding = (max(kernel[0] - stride, 0) // 2, max(kernel[1] - stride, 0) // 2)
        return cls(
            kernel_size=kernel,
            out_channels=args.integer("channels", 1, "a number of channels of", 1, MAX_CHANNELS),
            stride=stride,
            padding=padding,
            groups=args.option_integer("groups", 1, 1, MAX_CHANNELS),
            bias=not args.flag("no-bias"),
        )

    def write(self) -> str:
        usual = tuple((k - self.stride) // 2 for k in self.kernel_size)
        is_usual = self.padding == usual and all(
            (k - self.stride) % 2 == 0 for k in self.kernel_size
        )
        return with_options(
            f"{self.keyword}{one_or_two(self.kernel_size)}-{self.out_channels}"
            + ("" if self.stride == 1 else f"/{self.stride}"),
            "" if is_usual else f"pad {one_or_two(self.padding)}",
            unless(1, "groups", self.groups),
            "" if self.bias else "no-bias",
        )

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        if x.channels % self.groups or self.out_channels % self.groups:
            raise MisfitError(
                shapes.Groups(
                    groups=self.groups, channels_in=x.channels, channels_out=self.out_channels
                )
            )
        size = [
            (n - 1) * self.stride - 2 * pad + k
            for n, k, pad in zip(x.size, self.kernel_size, self.padding, strict=True)
        ]
        if min(size) < 1:
            raise MisfitError(maps.UpconvEmpties(shape=x.shape))
        return TensorType((self.out_channels, *size))

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        (x,) = inputs
        height, width = self.kernel_size
        shape = (x.channels, self.out_channels // self.groups, height, width)
        # The kernel of bilinear interpolation has 2 s - s mod 2 rows, and a channel reads itself.
        side = 2 * self.stride - self.stride % 2
        is_bilinear = (
            self.stride > 1 and self.kernel_size == (side, side) and self.out_channels == x.channels
        )
        weight = Param(
            name=f"{name}.weight",
            shape=shape,
            stored=shape,
            start="bilinear" if is_bilinear else "random",
            incoming=max(1, x.channels // self.groups * height * width // self.stride**2),
        )
        out = (self.out_channels,)
        bias = Param(name=f"{name}.bias", shape=out, stored=out, start="zero")
        return (weight, bias) if self.bias else (weight,)

    def macs(self, inputs: Types, y: TensorType) -> int:
        (x,) = inputs
        height, width = self.kernel_size
        return x.num_elements * (self.out_channels // self.groups) * height * width

    def reach(self, inputs: Types) -> Reach:
        def along(kernel: int, pad: int) -> tuple[Fraction, Fraction]:
            """Where the window begins, and its size: over all output positions, which see parts."""
            return Fraction(pad - kernel + 1, self.stride), Fraction(kernel - 1, self.stride) + 1

        rows, columns = map(along, self.kernel_size, self.padding)
        step = Fraction(1, self.stride)
        return Reach((rows[1], columns[1]), (step, step), (rows[0], columns[0]))

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        (x,) = inputs
        return windowed(nn.ConvTranspose2d, self, x.channels)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        vertical, horizontal = self.padding
        return graph.node(
            "ConvTranspose",
            (x, *params),
            name,
            kernel_shape=list(self.kernel_size),
            strides=[self.stride, self.stride],
            pads=[vertical, horizontal, vertical, horizontal],
            group=self.groups,
        )
