"""Class posteriors, written ``soft-max``.

Source: Simonyan & Zisserman 2015, section 2.1 and Table 1.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Arithmetic, Names, Op, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Softmax(Op):
    """``exp(x) / sum exp(x)`` over the channels, at each position; any shape."""

    keyword: ClassVar[str] = "soft-max"
    arithmetic: ClassVar[Arithmetic] = "fp32"
    syntax: ClassVar[Syntax | None] = Syntax("soft-max", "", "`soft-max` alone")

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.Softmax(dim=1)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Softmax", (x,), name, axis=1)
