"""Dropout, written ``dropout(0.5)``, and implied by the recipe on every FC but the last.

Source: Simonyan & Zisserman 2015, section 3.1; Krizhevsky et al. 2012, section 4.2.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.compiler.ops.op import Names, Op, TorchNN
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout(Op):
    """While training, zeroes a share of the numbers and scales up the rest; any shape."""

    keyword: ClassVar[str] = "dropout"
    shares_memory: ClassVar[bool] = True
    is_implied: ClassVar[bool] = True
    syntax: ClassVar[Syntax | None] = Syntax("dropout", "", "`dropout(0.5)`")

    rate: float = 0.5

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(rate=args.first_number("dropout", 0.5, 0.0, 0.99))

    def write(self) -> str:
        return f"{self.keyword}({self.rate!r})"

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.Dropout(self.rate)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        raise AssertionError("the pass drop-training-ops takes it out before export")
