"""The sigmoid-weighted linear unit, written ``SiLU``, also called swish.

Source: Elfwing et al. 2018, "Sigmoid-Weighted Linear Units"; Ramachandran et al. 2017.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Activation, Names, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Silu(Activation):
    """``x / (1 + exp(-x))``; any shape. Its backward pass reads the input, so it never works in
    place.
    """

    keyword: ClassVar[str] = "SiLU"
    shares_memory: ClassVar[bool] = False
    syntax: ClassVar[Syntax | None] = Syntax("SiLU", "", "`SiLU` alone")

    def to_torch(self, nn: TorchNN, inputs: Types, *, in_place: bool = True) -> Any:
        return nn.SiLU()

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        gate = graph.node("Sigmoid", (x,), f"{name}.gate")
        return graph.node("Mul", (x, gate), name)
