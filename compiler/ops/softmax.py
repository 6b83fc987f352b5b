"""Class posteriors, written ``soft-max``, or ``soft-max(map)`` for a label at each position.

Source: Simonyan & Zisserman 2015, section 2.1 and Table 1; Long et al. 2015, section 3.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Arithmetic, Names, Op, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Op):
    """``exp(x) / sum exp(x)`` over the channels, at each position; any shape.

    What it gives at the end of a net is averaged over space, unless ``per_position`` is set: then
    each position of a map has a label of its own.
    """

    keyword: ClassVar[str] = "soft-max"
    arithmetic: ClassVar[Arithmetic] = "fp32"
    syntax: ClassVar[Syntax | None] = Syntax("soft-max", "", "`soft-max` or `soft-max(map)`")

    per_position: bool = False

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(per_position=args.flag("map"))

    def write(self) -> str:
        return f"{self.keyword}(map)" if self.per_position else self.keyword

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if self.per_position and not x.is_map:
            raise MisfitError(shapes.NoMapToLabel(shape=x.shape))
        return x

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.Softmax(dim=1)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Softmax", (x,), name, axis=1)
