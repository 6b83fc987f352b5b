"""A feature map as a vector, implied before the first FC."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Names, Op, Reach, TorchNN
from vggspec.compiler.tensor import TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """Channels outermost, then rows, then columns, as in Caffe and PyTorch.

    In   ``(C, H, W)``
    Out  ``(C * H * W,)``
    """

    keyword: ClassVar[str] = "flatten"
    shares_memory: ClassVar[bool] = True
    is_implied: ClassVar[bool] = True

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        return TensorType((x.num_elements,))

    def reach(self, inputs: Types) -> Reach:
        (x,) = inputs
        return Reach(x.size)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.Flatten()

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node("Flatten", (x,), name)
