"""The interface of an op: its syntax, shapes, cost, and its forms in PyTorch and ONNX."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import Param, TensorType

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph

#: ``torch.nn``, or its stand-in while source text is written.
TorchNN = Any


Arithmetic = Literal["chosen", "as read", "fp32"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The part of the input that one output position sees, rows then columns."""

    size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Op(ABC):
    """A kind of layer with its numbers. Subclasses are frozen dataclasses, one a file."""

    keyword: ClassVar[str]
    """The op's name in tables, JSON and messages."""

    syntax: ClassVar[Syntax | None] = None
    """How it is written, or None for ops that are only implied."""

    is_weight_layer: ClassVar[bool] = False
    """Whether the paper counts it as a weight layer: conv and FC are."""

    is_implied: ClassVar[bool] = False
    """Whether tables leave it out, as the paper leaves out ReLU "for brevity"."""

    arithmetic: ClassVar[Arithmetic] = "as read"
    """The number type it computes in where a lower precision is chosen: that one, the one of what
    it reads, or fp32 all the same."""

    casts_params: ClassVar[bool] = True
    """Whether its arrays are used in that type too."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        """The op for a layer of a spec; mistakes are reported to ``args``."""
        return cls()

    def write(self) -> str:
        """The op as one would write it in a spec, defaults left out: the inverse of ``read``."""
        return self.keyword

    def infer(self, x: TensorType) -> TensorType:
        """The type of the output.

        Raises:
            MisfitError: the op does not take this input.
        """
        return x

    def params(self, x: TensorType, name: str) -> tuple[Param, ...]:
        """The arrays that a layer called ``name`` owns."""
        return ()

    def macs(self, x: TensorType, y: TensorType) -> int:
        """Multiply-accumulates for one image; those of conv and FC are counted, as is usual."""
        return 0

    def reach(self, x: TensorType) -> Reach:
        """What one position of the output sees."""
        return Reach()

    @abstractmethod
    def to_torch(self, nn: TorchNN, x: TensorType) -> Any:
        """The module of ``torch.nn`` that computes it."""

    @abstractmethod
    def to_onnx(self, graph: "OnnxGraph", x: str, params: tuple[str, ...], name: str) -> str:
        """Add its node to the graph; the name of the result."""


def with_options(word: str, *options: str) -> str:
    """A layer's word and its options, the empty ones left out."""
    said = ", ".join(option for option in options if option)
    return f"{word}({said})" if said else word


def unless(usual: float, word: str, value: float) -> str:
    """An option and its value, or nothing where it is the usual one."""
    return "" if value == usual else f"{word} {value!r}"


def one_or_two(sides: tuple[int, int]) -> str:
    """``3`` for equal sides, else ``1x7``."""
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"
