"""Rectification, implied after every conv and FC but the last weight layer.

Source: Simonyan & Zisserman 2015, section 2.1; Krizhevsky et al. 2012, section 3.1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Op, TorchNN
from vggspec.compiler.tensor import TensorType

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Relu(Op):
    """``max(x, 0)``; any shape."""

    keyword: ClassVar[str] = "relu"
    is_implied: ClassVar[bool] = True

    def to_torch(self, nn: TorchNN, x: TensorType) -> Any:
        return nn.ReLU(inplace=True)

    def to_onnx(self, graph: "OnnxGraph", x: str, params: tuple[str, ...], name: str) -> str:
        return graph.node("Relu", (x,), name)
