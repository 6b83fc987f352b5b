"""Average pooling, written ``avgpool``, or ``avgpool<window>/<stride>``.

Padding is not counted into the average: a window at the border averages what lies in the image.
With ``count-pad`` it counts as zeros, as in PyTorch and Caffe; what rounding up adds never does.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import layers
from vggspec.compiler.ops.max_pool import NUMBERS, MaxPool
from vggspec.compiler.ops.op import Names, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(MaxPool):
    """The mean of each window; shapes are those of max-pooling.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``
    """

    keyword: ClassVar[str] = "avgpool"
    syntax: ClassVar[Syntax | None] = Syntax(
        "avgpool", NUMBERS, "avgpool<window>/<stride>, such as `avgpool2/2`", ("", "/")
    )

    count_pad: bool = False
    """Whether padding counts as zeros."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        op = cls.read_pool(args, count_pad=args.flag("count-pad"))
        if op.count_pad and op.padding == 0:
            args.problem(layers.NoPaddingToCount(), "count-pad")
        return op

    def options(self) -> tuple[str, ...]:
        return (*MaxPool.options(self), "count-pad" if self.count_pad else "")

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        assert self.dilation == 1, "finer-stride dilates no averages"
        assert self.end_padding is None, "nor does it pad their ends"
        more = self.torch_options()
        if self.padding and not self.count_pad:
            more["count_include_pad"] = False
        return nn.AvgPool2d(self.kernel_size, self.stride, **more)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        attributes = self.onnx_attributes()
        if self.count_pad and self.end > self.padding:
            # Zeros that count are a part of the map; what rounding up adds to it does not count.
            x = self._with_sides(graph, x, name)
            more = self.end - self.padding
            attributes["pads"] = [0, 0, more, more]
            return graph.node("AveragePool", (x,), name, count_include_pad=0, **attributes)
        counts = int(self.count_pad)
        return graph.node("AveragePool", (x,), name, count_include_pad=counts, **attributes)

    def _with_sides(self, graph: "OnnxGraph", x: str, name: str) -> str:
        """The map with zeros on each side."""
        sides = (0, 0, self.padding, self.padding) * 2
        pads = graph.integers(f"{name}.pads", sides)
        return graph.node("Pad", (x, pads), f"{name}.padded")
