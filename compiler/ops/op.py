"""The interface of an op: its syntax, shapes, cost, and its forms in PyTorch and ONNX."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import Param, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph

#: ``torch.nn``, or its stand-in while source text is written.
TorchNN = Any

#: ``torch``, or its stand-in.
Torch = Any

#: The names of tensors in an ONNX graph.
Names = tuple[str, ...]

Arithmetic = Literal["chosen", "as read", "fp32"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The window of the input that one output position sees, rows then columns."""

    size: tuple[int | Fraction, int | Fraction] = (1, 1)
    """Input positions from the first that is seen to the last, both included. Where a map grows,
    positions of the output see different parts of it: what all of them see, each from its place.
    """

    stride: tuple[int | Fraction, int | Fraction] = (1, 1)
    """Input positions from one output position to the next; less than 1 where a map grows."""

    start: tuple[int | Fraction, int | Fraction] = (0, 0)
    """The first input position that the first output position sees; negative in the padding."""


@dataclass(frozen=True)
class Op(ABC):
    """A kind of layer with its numbers. Subclasses are frozen dataclasses, one a file.

    Methods take the types of all inputs, in the order of the layer. An op of one input begins with
    ``(x,) = inputs``; ``build`` has checked how many there are.
    """

    keyword: ClassVar[str]
    """The op's name in tables, JSON and messages."""

    syntax: ClassVar[Syntax | None] = None
    """How it is written, or None for ops that are only implied."""

    is_weight_layer: ClassVar[bool] = False
    """Whether the papers count it as a weight layer: conv and FC are."""

    is_implied: ClassVar[bool] = False
    """Whether tables leave it out, as the paper leaves out ReLU "for brevity"."""

    is_join: ClassVar[bool] = False
    """Whether it takes two or more inputs; all other ops take one, or one and a size."""

    reads_size: ClassVar[bool] = False
    """Whether it takes a second input, of which it reads rows and columns alone."""

    shares_memory: ClassVar[bool] = False
    """Whether PyTorch's result may lie in the memory of the input."""

    arithmetic: ClassVar[Arithmetic] = "as read"
    """The number type it computes in where a lower precision is chosen: that one, the one of what
    it reads, or fp32 all the same."""

    has_bf16: ClassVar[bool] = True
    """Whether engines compute it in bf16; where not, it computes in fp32 in their place."""

    casts_params: ClassVar[bool] = True
    """Whether its arrays are used in that type too."""

    @classmethod
    def read(cls, args: Arguments) -> Self:
        """The op for a layer of a spec; mistakes are reported to ``args``."""
        return cls()

    def write(self) -> str:
        """The op as one would write it in a spec, defaults left out: the inverse of ``read``."""
        return self.keyword

    def infer(self, inputs: Types) -> TensorType:
        """The type of the output.

        Raises:
            MisfitError: the op does not take these inputs.
        """
        return inputs[0]

    def params(self, inputs: Types, name: str) -> tuple[Param, ...]:
        """The arrays that a layer called ``name`` owns."""
        return ()

    def macs(self, inputs: Types, y: TensorType) -> int:
        """Multiply-accumulates for one image; those of conv and FC are counted, as is usual."""
        return 0

    def reach(self, inputs: Types) -> Reach:
        """What one position of the output sees of each input."""
        return Reach()

    @abstractmethod
    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        """The module of ``torch.nn`` that computes it, or None for an op that ``call_torch``
        computes.
        """

    def call_torch(self, torch: Torch, *x: Any) -> Any:
        """The result by functions of ``torch``, for an op without a module.

        ``x`` is a tensor ``(N, ...)`` for each input.
        """
        raise NotImplementedError(self.keyword)

    @abstractmethod
    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        """Add its node to the graph; the name of the result."""


@dataclass(frozen=True)
class Activation(Op):
    """An op that computes each number from the one in its place, and may overwrite it."""

    is_implied: ClassVar[bool] = True
    shares_memory: ClassVar[bool] = True

    @abstractmethod
    def to_torch(self, nn: TorchNN, inputs: Types, *, in_place: bool = True) -> Any:
        """The module; ``in_place`` where nothing else reads the input (``memory.overwritten``)."""


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


def windowed(kind: Any, op: Any, channels: int, *, dilation: int = 1) -> Any:
    """The module of a conv or an upconv that reads ``channels``: ``nn.Conv2d``, what has its
    default left out. ``op`` has the fields of ``Conv`` or ``UpConv``.
    """
    more: dict[str, Any] = {}
    if op.stride != 1:
        more["stride"] = op.stride
    if op.padding != (0, 0):
        more["padding"] = op.padding[0] if op.padding[0] == op.padding[1] else op.padding
    if dilation != 1:
        more["dilation"] = dilation
    if op.groups != 1:
        more["groups"] = op.groups
    if not op.bias:
        more["bias"] = False
    height, width = op.kernel_size
    return kind(channels, op.out_channels, height if height == width else (height, width), **more)
