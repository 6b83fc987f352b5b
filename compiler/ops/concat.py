"""The channels of branches one after another, written ``[… & …]``.

Source: Szegedy et al. 2015, "Going Deeper with Convolutions", figure 2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Names, Op, Torch, TorchNN
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Joins the channels of maps, or the numbers of vectors, in the order of the inputs.

    In   two or more ``(C_i, H, W)`` with equal H and W, or ``(C_i,)``
    Out  ``(sum of C_i, H, W)`` or ``(sum of C_i,)``
    """

    keyword: ClassVar[str] = "concat"
    is_join: ClassVar[bool] = True

    def infer(self, inputs: Types) -> TensorType:
        first = inputs[0]
        for other in inputs[1:]:
            if other.shape[1:] != first.shape[1:]:
                raise MisfitError(shapes.CannotJoin(shapes=(first.shape, other.shape)))
        return TensorType((sum(x.channels for x in inputs), *first.shape[1:]))

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return None

    def call_torch(self, torch: Torch, *x: Any) -> Any:
        return torch.cat(list(x), dim=1)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        return graph.node("Concat", inputs, name, axis=1)
