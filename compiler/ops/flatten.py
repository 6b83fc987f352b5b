"""A feature map as a vector, implied before the first FC."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Op, Reach, TorchNN
from vggspec.compiler.tensor import TensorType

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Flatten(Op):
    """Channels outermost, then rows, then columns, as in Caffe and PyTorch.

    In   ``(C, H, W)``
    Out  ``(C * H * W,)``
    """

    keyword: ClassVar[str] = "flatten"
    is_implied: ClassVar[bool] = True

    def infer(self, x: TensorType) -> TensorType:
        return TensorType((x.num_elements,))

    def reach(self, x: TensorType) -> Reach:
        return Reach(x.size)

    def to_torch(self, nn: TorchNN, x: TensorType) -> Any:
        return nn.Flatten()

    def to_onnx(self, graph: "OnnxGraph", x: str, params: tuple[str, ...], name: str) -> str:
        return graph.node("Flatten", (x,), name)
