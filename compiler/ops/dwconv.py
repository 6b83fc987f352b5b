"""Depthwise convolution, written ``dwconv<receptive field>``: one filter for each channel.

Source: Howard et al. 2017, "MobileNets", section 3.1.
"""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.conv import AnyConv, Conv
from vggspec.compiler.ops.op import Names, Reach, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConv(AnyConv):
    """2-D cross-correlation of each channel with a filter of its own.

    In   ``(C, H, W)``
    Out  ``(C, H', W')``, rows and columns as those of a convolution
    """

    keyword: ClassVar[str] = "dwconv"
    syntax: ClassVar[Syntax | None] = Syntax(
        "dwconv",
        r"(?P<kernel>\d+(?:[x×]\d+)?)(?:/(?P<stride>\d+))?",
        "dwconv<receptive field>, such as `dwconv3` or `dwconv3/2`",
        ("", "/"),
    )

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(**cls.read_fields(args), **cls.read_flags(args))

    def of(self, channels: int) -> Conv:
        """The convolution with as many groups as there are channels."""
        own = {each.name: getattr(self, each.name) for each in fields(AnyConv)}
        return Conv(**own, out_channels=channels, groups=channels)

    def write(self) -> str:
        return self.written("")

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        return self.of(x.channels).infer(inputs)

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        return self.of(inputs[0].channels).params(inputs, name)

    def macs(self, inputs: Types, y: TensorType) -> int:
        return self.of(inputs[0].channels).macs(inputs, y)

    def reach(self, inputs: Types) -> Reach:
        return self.of(inputs[0].channels).reach(inputs)

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return self.of(inputs[0].channels).to_torch(nn, inputs)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        return self.of(graph.about(inputs[0]).type.channels).to_onnx(graph, inputs, params, name)
