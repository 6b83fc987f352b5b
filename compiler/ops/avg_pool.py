"""Average pooling, written ``avgpool``, or ``avgpool<window>/<stride>``.

Padding is not counted into the average: a window at the border averages what lies in the image.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.max_pool import NUMBERS, MaxPool
from vggspec.compiler.ops.op import Names, TorchNN
from vggspec.compiler.ops.syntax import Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class AvgPool(MaxPool):
    """The mean of each window; shapes are those of max-pooling.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``
    """

    keyword: ClassVar[str] = "avgpool"
    syntax: ClassVar[Syntax | None] = Syntax(
        "avgpool", NUMBERS, "avgpool<window>/<stride>, such as `avgpool2/2`", ("", "/")
    )

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        assert self.dilation == 1, "finer-stride dilates no averages"
        assert self.end_padding is None, "nor does it pad their ends"
        more = self.torch_options()
        if self.padding:
            more["count_include_pad"] = False
        return nn.AvgPool2d(self.kernel_size, self.stride, **more)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        attributes = self.onnx_attributes()
        return graph.node("AveragePool", (x,), name, count_include_pad=0, **attributes)
