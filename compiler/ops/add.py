"""The sum of branches, written ``[… + …]``.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.2.
"""

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Names, Op, Torch, TorchNN
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True)
class Add(Op):
    """Adds tensors number by number.

    In   two tensors or more of one shape
    Out  the same shape
    """

    keyword: ClassVar[str] = "add"
    is_join: ClassVar[bool] = True

    def infer(self, inputs: Types) -> TensorType:
        first = inputs[0]
        for other in inputs[1:]:
            if other != first:
                raise MisfitError(shapes.CannotAdd(shapes=(first.shape, other.shape)))
        return first

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return None

    def call_torch(self, torch: Torch, *x: Any) -> Any:
        return reduce(add, x)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        *before, last = inputs
        total = before[0]
        for i, x in enumerate(before[1:], 1):
            total = graph.node("Add", (total, x), f"{name}.part{i}")
        return graph.node("Add", (total, last), name)
