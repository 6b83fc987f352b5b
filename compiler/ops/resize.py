"""A map interpolated to the size of another one, written ``resize(NAME)``.

As ``torch.nn.functional.interpolate`` without aligned corners; ``nearest`` is computed in integers,
as PyTorch's own takes another neighbour for some sizes, by errors of fp32.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.compiler.ops.crop import maps_of
from vggspec.compiler.ops.op import Names, Op, Torch, TorchNN, with_options
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.ops.up import BILINEAR
from vggspec.compiler.tensor import TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize(Op):
    """The first input with rows and columns of the second.

    In   ``(C, H, W)``, and a map of which the size is read
    Out  ``(C, H', W')``, H' and W' of the second input

    Row i is taken from row ``floor(i H / H')`` (``nearest``), or interpolated between those beside
    ``(i + 1/2) H / H' - 1/2``.
    """

    keyword: ClassVar[str] = "resize"
    syntax: ClassVar[Syntax | None] = Syntax("resize", "", "`resize(pool4)`")
    reads_size: ClassVar[bool] = True

    of: str
    """The name of what the second input is, as written."""

    nearest: bool = False

    @classmethod
    def read(cls, args: Arguments) -> Self:
        nearest = args.flag("nearest")
        args.flag("bilinear")  # the default, which one may say
        return cls(nearest=nearest, of=args.reference())

    def write(self) -> str:
        return with_options(self.keyword, self.of, "nearest" if self.nearest else "")

    def infer(self, inputs: Types) -> TensorType:
        x, other = maps_of(self.keyword, inputs)
        return TensorType((x.channels, *other.size))

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return None

    def call_torch(self, torch: Torch, *x: Any) -> Any:
        small, other = x
        if not self.nearest:
            size = other.shape[2:]
            return torch.nn.functional.interpolate(small, size=size, mode="bilinear")
        for axis in (2, 3):
            places = torch.arange(other.shape[axis], device=small.device)
            sources = places * small.shape[axis] // other.shape[axis]
            small = torch.index_select(small, axis, sources)
        return small

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        x, other = inputs
        if not self.nearest:
            head = graph.node("Shape", (x,), f"{name}.images", end=2)
            tail = graph.node("Shape", (other,), f"{name}.size", start=2)
            sizes = graph.node("Concat", (head, tail), f"{name}.sizes", axis=0)
            return graph.node("Resize", (x, "", "", sizes), name, **BILINEAR)
        x = self._nearest(graph, x, other, f"{name}.rows", axis=2)
        return self._nearest(graph, x, other, name, axis=3)

    def _nearest(self, graph: "OnnxGraph", x: str, other: str, name: str, *, axis: int) -> str:
        """The nearest rows or columns: Range, multiplied and divided in integers."""
        zero, one = (graph.scalar(f"{name}.{n}", n) for n in (0, 1))
        sides = []
        for side, tensor in (("of", x), ("to", other)):
            along = graph.node("Shape", (tensor,), f"{name}.{side}", start=axis, end=axis + 1)
            sides.append(graph.node("Squeeze", (along,), f"{name}.{side}.number"))
        places = graph.node("Range", (zero, sides[1], one), f"{name}.places")
        times = graph.node("Mul", (places, sides[0]), f"{name}.times")
        sources = graph.node("Div", (times, sides[1]), f"{name}.sources")
        return graph.node("Gather", (x, sources), name, axis=axis)
