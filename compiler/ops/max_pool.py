"""Max-pooling, written ``maxpool``, or ``maxpool<window>/<stride>``.

Source: Simonyan & Zisserman 2015, section 2.1 (2 × 2 windows, stride 2). The map is rounded down
as in PyTorch unless ``ceil`` is written; Caffe rounds up, which matters when the net is dense.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.catalogue import shapes
from vggspec.compiler.ir import MisfitError, TensorType
from vggspec.compiler.ops.op import Op, TorchNN, Window, unless, with_options
from vggspec.compiler.ops.syntax import MAX_SIDE, Arguments, Syntax

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx_graph import OnnxGraph

NUMBERS = r"(?P<window>\d+)?(?:/(?P<stride>\d+))?"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """The largest number of each window.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``, ``H' = (H + 2 pad - window) // stride + 1``, or rounded up
    """

    keyword: ClassVar[str] = "maxpool"
    syntax: ClassVar[Syntax | None] = Syntax(
        "maxpool", NUMBERS, "maxpool<window>/<stride>, such as `maxpool3/2`", ("", "/")
    )

    kernel_size: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False

    @classmethod
    def read(cls, args: Arguments) -> Self:
        op = cls(
            kernel_size=args.integer("window", 2, "a window of", 1, MAX_SIDE),
            stride=args.integer("stride", 2, "a stride of", 1, MAX_SIDE),
            padding=args.option_integer("pad", 0, 0, MAX_SIDE),
            ceil=args.flag("ceil"),
        )
        if op.padding > op.kernel_size // 2:
            args.problem(shapes.PoolPadding(window=op.kernel_size, pad=op.padding), "pad")
        return op

    def write(self) -> str:
        is_usual = self.kernel_size == self.stride == 2
        return with_options(
            self.keyword if is_usual else f"{self.keyword}{self.kernel_size}/{self.stride}",
            unless(0, "pad", self.padding),
            "ceil" if self.ceil else "",
        )

    def infer(self, x: TensorType) -> TensorType:
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
        room = n + 2 * self.padding - self.kernel_size
        if room < 0 and not (self.ceil and room > -self.stride):
            return 0
        if not self.ceil:
            return room // self.stride + 1
        size = -(-room // self.stride) + 1
        # A last window that would begin in the padding is dropped, as Caffe and PyTorch do.
        return size - 1 if (size - 1) * self.stride >= n + self.padding else size

    def window(self, x: TensorType) -> Window:
        return Window((self.kernel_size,) * 2, (self.stride,) * 2)

    def to_torch(self, nn: TorchNN, x: TensorType) -> Any:
        return nn.MaxPool2d(self.kernel_size, self.stride, **self.torch_options())

    def torch_options(self) -> dict[str, Any]:
        """What is not the default of ``torch.nn``'s pooling modules."""
        more: dict[str, Any] = {}
        if self.padding:
            more["padding"] = self.padding
        if self.ceil:
            more["ceil_mode"] = True
        return more

    def to_onnx(self, graph: "OnnxGraph", x: str, params: tuple[str, ...], name: str) -> str:
        return graph.node("MaxPool", (x,), name, **self.onnx_attributes())

    def onnx_attributes(self) -> dict[str, int | list[int]]:
        """What ONNX's pooling ops share.

        Rounding up is written as more padding at the end, which says the same: ONNX's own
        ``ceil_mode`` keeps a last window that begins in the padding before opset 22 and drops it
        from there on, and runtimes differ.
        """
        begin = end = self.padding
        if self.ceil:
            end = min(self.padding + self.stride - 1, self.kernel_size - 1)
        return {
            "kernel_shape": [self.kernel_size] * 2,
            "strides": [self.stride] * 2,
            "pads": [begin, begin, end, end],
        }
