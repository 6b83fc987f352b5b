"""Rectification, implied after every conv and FC but the last weight layer.

Source: Simonyan & Zisserman 2015, section 2.1; Krizhevsky et al. 2012, section 3.1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Activation, Names, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Relu(Activation):
    """``max(x, 0)``; any shape."""

    keyword: ClassVar[str] = "relu"
    syntax: ClassVar[Syntax | None] = Syntax("ReLU", "", "`ReLU` alone")

    def to_torch(self, nn: TorchNN, inputs: Types, *, in_place: bool = True) -> Any:
        return nn.ReLU(inplace=True) if in_place else nn.ReLU()

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Relu", (x,), name)
