"""Global average pooling, written ``gap``.

Source: Lin et al. 2014, "Network in Network", section 3.2. It is also how the class score map is
averaged over space (Simonyan & Zisserman 2015, section 3.2).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Arithmetic, Names, Op, Reach, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class GlobalAvgPool(Op):
    """The mean over all rows and columns.

    In   ``(C, H, W)``
    Out  ``(C, 1, 1)``
    """

    keyword: ClassVar[str] = "gap"
    arithmetic: ClassVar[Arithmetic] = "fp32"
    syntax: ClassVar[Syntax | None] = Syntax("gap", "", "`gap` alone")

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        return TensorType((x.channels, 1, 1))

    def reach(self, inputs: Types) -> Reach:
        (x,) = inputs
        return Reach(x.size)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.AdaptiveAvgPool2d(1)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("GlobalAveragePool", (x,), name)
