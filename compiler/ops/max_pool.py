"""Max-pooling, written ``maxpool``, or ``maxpool<window>/<stride>``.

Source: Simonyan & Zisserman 2015, section 2.1 (2 × 2 windows, stride 2). The map is rounded down
as in PyTorch unless ``ceil`` is written; Caffe rounds up, which matters when the net is dense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Names, Op, Reach, TorchNN, unless, with_options
from vggspec.compiler.ops.syntax import MAX_SIDE, Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph

TO_THE_END = (1 << 63) - 1
"""Where a slice of ONNX ends that takes all there is."""

NUMBERS = r"(?P<window>\d+)?(?:/(?P<stride>\d+))?"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """The largest number of each window.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``, ``H' = (H + 2 pad - window) // stride + 1``, or rounded up

    A spec cannot write the last two fields: passes do.
    """

    keyword: ClassVar[str] = "maxpool"
    syntax: ClassVar[Syntax | None] = Syntax(
        "maxpool", NUMBERS, "maxpool<window>/<stride>, such as `maxpool3/2`", ("", "/")
    )

    kernel_size: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False
    dilation: int = 1
    """Rows and columns from one number of a window to the next."""

    end_padding: int | None = None
    """Padding at the bottom and at the right; None is that of the other sides."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls.read_pool(args)

    @classmethod
    def read_pool(cls, args: Arguments, **more: bool) -> Self:
        """A pooling with what all kinds of it have in common."""
        op = cls(
            kernel_size=args.integer("window", 2, "a window of", 1, MAX_SIDE),
            stride=args.integer("stride", 2, "a stride of", 1, MAX_SIDE),
            padding=args.option_integer("pad", 0, 0, MAX_SIDE),
            ceil=args.flag("ceil"),
            **more,
        )
        if op.padding > op.kernel_size // 2:
            args.problem(shapes.PoolPadding(window=op.kernel_size, pad=op.padding), "pad")
        return op

    def write(self) -> str:
        is_usual = self.kernel_size == self.stride == 2
        return with_options(
            self.keyword if is_usual else f"{self.keyword}{self.kernel_size}/{self.stride}",
            *self.options(),
        )

    def options(self) -> tuple[str, ...]:
        """The options as they are written."""
        return unless(0, "pad", self.padding), "ceil" if self.ceil else ""

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        size = [self._pooled(n) for n in x.size]
        if min(size) < 1:
            raise MisfitError(
                shapes.PoolEmpties(
                    layer=self.keyword, shape=x.shape, input=(0, 0), needed=None, pools=0
                )
            )
        return TensorType((x.channels, *size))

    def _pooled(self, n: int) -> int:
        if n < self.dilation and self.padding + self.end > 0:
            return 0  # a window would lie in the padding as a whole
        return max((n + self.padding + self.end - self._extent) // self.stride + 1, 0)

    @property
    def end(self) -> int:
        """Padding at the bottom and at the right where it is rounded down in any case.

        A last window that would begin in the padding is dropped, as Caffe and PyTorch do.
        """
        if self.ceil:
            return min(self.padding + self.stride - 1, self.kernel_size - 1)
        return self.padding if self.end_padding is None else self.end_padding

    @property
    def _extent(self) -> int:
        """Rows, and columns, from the first of a window to its last."""
        return (self.kernel_size - 1) * self.dilation + 1

    def reach(self, inputs: Types) -> Reach:
        return Reach((self._extent,) * 2, (self.stride,) * 2, (-self.padding,) * 2)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        # PyTorch pads by half a window at most, and both ends alike.
        is_padded_apart = self.end_padding is not None or (self.padding > 0 and self.dilation > 1)
        more: dict[str, Any] = {} if is_padded_apart else self.torch_options()
        if self.dilation != 1:
            more["dilation"] = self.dilation
        pool = nn.MaxPool2d(self.kernel_size, self.stride, **more)
        if not is_padded_apart:
            return pool
        sides = (self.padding, self.end) * 2
        return nn.Sequential(nn.ConstantPad2d(sides, -inf), pool)

    def torch_options(self) -> dict[str, Any]:
        """What is not the default of ``torch.nn``'s pooling modules."""
        more: dict[str, Any] = {}
        if self.padding:
            more["padding"] = self.padding
        if self.ceil:
            more["ceil_mode"] = True
        return more

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        if self._extent == self.kernel_size:
            return graph.node("MaxPool", (x,), name, **self.onnx_attributes())
        # TensorRT's parser refuses dilated pooling: the largest of rows, then of columns.
        x = self._padded(graph, x, name)
        x = graph.node("Max", self._shifted(graph, x, f"{name}.rows", axis=2), f"{name}.rows")
        return graph.node("Max", self._shifted(graph, x, f"{name}.columns", axis=3), name)

    def _padded(self, graph: "OnnxGraph", x: str, name: str) -> str:
        begin, end = self.padding, self.end
        if begin == end == 0:
            return x
        nothing = graph.number(f"{name}.nothing", -inf)
        precision = graph.about(x).precision
        if precision != "fp32":
            nothing = graph.cast(nothing, precision)
        pads = graph.integers(f"{name}.pads", (0, 0, begin, begin, 0, 0, end, end))
        return graph.node("Pad", (x, pads, nothing), f"{name}.padded")

    def _shifted(self, graph: "OnnxGraph", x: str, name: str, axis: int) -> Sequence[str]:
        """The first number of every window, the second, and so on, along an axis."""
        along = graph.integers(f"{name}.axis", (axis,))
        step = graph.integers(f"{name}.step", (self.stride,))
        shifted = []
        for i in range(self.kernel_size):
            begin = i * self.dilation
            left = self._extent - 1 - begin
            ends = graph.integers(f"{name}.end{i}", (-left if left else TO_THE_END,))
            begins = graph.integers(f"{name}.begin{i}", (begin,))
            shifted.append(graph.node("Slice", (x, begins, ends, along, step), f"{name}.part{i}"))
        return shifted

    def onnx_attributes(self) -> dict[str, int | list[int]]:
        """What ONNX's pooling ops share.

        Rounding up is written as more padding at the end, which says the same: ONNX's own
        ``ceil_mode`` keeps a last window that begins in the padding before opset 22 and drops it
        from there on, and runtimes differ.
        """
        begin, end = self.padding, self.end
        return {
            "kernel_shape": [self.kernel_size] * 2,
            "strides": [self.stride] * 2,
            "pads": [begin, begin, end, end],
        }
