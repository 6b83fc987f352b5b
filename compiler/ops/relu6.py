"""Rectification with a limit, written ``ReLU6``.

Source: Howard et al. 2017, "MobileNets"; Sandler et al. 2018, "MobileNetV2", section 3.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Activation, Names, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Relu6(Activation):
    """``min(max(x, 0), 6)``; any shape."""

    keyword: ClassVar[str] = "ReLU6"
    syntax: ClassVar[Syntax | None] = Syntax("ReLU6", "", "`ReLU6` alone")

    def to_torch(self, nn: TorchNN, inputs: Types, *, in_place: bool = True) -> Any:
        return nn.ReLU6(inplace=True) if in_place else nn.ReLU6()

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        low, high = graph.number(f"{name}.low", 0.0), graph.number(f"{name}.high", 6.0)
        precision = graph.about(x).precision
        if precision != "fp32":
            low, high = graph.cast(low, precision), graph.cast(high, precision)
        return graph.node("Clip", (x, low, high), name)
