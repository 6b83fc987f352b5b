"""A map cut to where another one lies, written ``crop(NAME)``.

Where it begins follows from the geometry of the two paths, as in ``coord_map.py`` of Caffe; the
size is read while the net runs.

Source: Long, Shelhamer & Darrell 2015, section 4.2; Ronneberger, Fischer & Brox 2015, figure 1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import maps
from vggspec.compiler.ops.op import Names, Op, Reach, Torch, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop(Op):
    """Rows and columns of the second input, cut out of the first.

    In   ``(C, H, W)``, and a map of which the size is read
    Out  ``(C, H', W')``, H' and W' of the second input
    """

    keyword: ClassVar[str] = "crop"
    syntax: ClassVar[Syntax | None] = Syntax("crop", "", "`crop(pool4)`")
    reads_size: ClassVar[bool] = True
    shares_memory: ClassVar[bool] = True

    of: str
    """The name of what the second input is, as written."""

    offset: tuple[int, int] = (0, 0)
    """The row and the column where it begins: known when the paths are (``wire.py``)."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(of=args.reference())

    def write(self) -> str:
        return f"{self.keyword}({self.of})"

    def infer(self, inputs: Types) -> TensorType:
        x, other = maps_of(self.keyword, inputs)
        for begin, n, length in zip(self.offset, x.size, other.size, strict=True):
            if begin < 0 or begin + length > n:
                raise MisfitError(
                    maps.CropOutside(
                        name=self.of, shape=x.shape, wanted=other.shape, offset=self.offset
                    )
                )
        return TensorType((x.channels, *other.size))

    def reach(self, inputs: Types) -> Reach:
        return Reach(start=self.offset)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return None

    def call_torch(self, torch: Torch, *x: Any) -> Any:
        cut, other = x
        top, left = self.offset
        # Unlike an index, `narrow` refuses a map that does not hold the other.
        rows = torch.narrow(cut, 2, top, other.shape[2])
        return torch.narrow(rows, 3, left, other.shape[3])

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        x, other = inputs
        begins = graph.integers(f"{name}.begins", self.offset)
        axes = graph.integers(f"{name}.axes", (2, 3))
        size = graph.node("Shape", (other,), f"{name}.size", start=2)
        ends = graph.node("Add", (size, begins), f"{name}.ends") if any(self.offset) else size
        return graph.node("Slice", (x, begins, ends, axes), name)


def maps_of(keyword: str, inputs: Types) -> Types:
    """The two inputs of an op that reads the size of the second, which are maps.

    Raises:
        MisfitError: one of them is a vector.
    """
    for i, each in enumerate(inputs):
        if not each.is_map:
            raise MisfitError(
                maps.NoRowsThere(word=keyword, is_named=i == 1, numbers=each.channels)
            )
    return inputs
