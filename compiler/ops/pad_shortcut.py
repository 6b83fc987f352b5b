"""A shortcut without weights where shapes differ, written ``shortcut(pad)``.

Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.3, option A.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vggspec.compiler.ops.op import Names, Op, Reach, TorchNN
from vggspec.compiler.tensor import TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class PadShortcut(Op):
    """Takes every ``stride``-th row and column, and appends channels of zeros.

    In   ``(C, H, W)``
    Out  ``(out_channels, H', W')``, ``H' = (H - 1) // stride + 1``
    """

    keyword: ClassVar[str] = "shortcut"

    out_channels: int
    stride: int = 1

    def write(self) -> str:
        return "shortcut(pad)"

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        return TensorType((self.out_channels, *((n - 1) // self.stride + 1 for n in x.size)))

    def reach(self, inputs: Types) -> Reach:
        return Reach(stride=(self.stride, self.stride))

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        # A pooling of single numbers takes every stride-th of them.
        more = self.out_channels - inputs[0].channels
        return nn.Sequential(
            nn.MaxPool2d(1, self.stride), nn.ConstantPad3d((0, 0, 0, 0, 0, more), 0.0)
        )

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        about = graph.about(x)
        part = graph.node(
            "MaxPool", (x,), f"{name}.part", kernel_shape=[1, 1], strides=[self.stride] * 2
        )
        pads = graph.integers(
            f"{name}.pads", (0, 0, 0, 0, 0, self.out_channels - about.type.channels, 0, 0)
        )
        zero = graph.number(f"{name}.zero", 0.0)
        if about.precision != "fp32":
            zero = graph.cast(zero, about.precision)
        return graph.node("Pad", (part, pads, zero), name)
