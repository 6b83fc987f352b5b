"""Bounding boxes as the output, written ``boxes(per-class)`` or ``boxes(shared)``.

Source: Simonyan & Zisserman 2015, appendix A.1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import layers, shapes
from vggspec.compiler.ops.op import Names, Op, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes(Op):
    """Says that each four channels are a box: centre x, centre y, width, height.

    In   ``(4,)`` for shared boxes, ``(4 * classes,)`` for boxes per class, or maps of them
    Out  the same
    """

    keyword: ClassVar[str] = "boxes"
    shares_memory: ClassVar[bool] = True
    syntax: ClassVar[Syntax | None] = Syntax("boxes", "", "`boxes(per-class)` or `boxes(shared)`")

    shared: bool = False

    @classmethod
    def read(cls, args: Arguments) -> Self:
        shared, per_class = args.flag("shared"), args.flag("per-class")
        if shared == per_class:
            args.problem(layers.OptionValue(word="boxes", expected="`per-class` or `shared`"))
        return cls(shared=shared)

    def write(self) -> str:
        return f"{self.keyword}({'shared' if self.shared else 'per-class'})"

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if x.channels != 4 if self.shared else x.channels % 4:
            raise MisfitError(shapes.BoxChannels(channels=x.channels, shared=self.shared))
        return x

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.Identity()

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Identity", (x,), name)
