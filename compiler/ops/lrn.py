"""Local response normalisation, written ``LRN``.

Source: Krizhevsky et al. 2012, section 3.3, whose constants are the defaults; net A-LRN of
Simonyan & Zisserman 2015. The formula there multiplies ``alpha`` with the plain sum; Caffe,
PyTorch and ONNX divide it by ``n`` first, so their ``alpha`` is ``n`` times as large.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Arithmetic, Names, Op, TorchNN, unless, with_options
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Lrn(Op):
    """``y[c] = x[c] / (k + alpha * sum of x[c']**2 over the n channels around c) ** beta``.

    In   ``(C, H, W)``
    Out  the same
    """

    keyword: ClassVar[str] = "LRN"
    arithmetic: ClassVar[Arithmetic] = "fp32"
    syntax: ClassVar[Syntax | None] = Syntax("LRN", "", "`LRN` alone, or `LRN(n 5, k 2)`")

    n: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    @classmethod
    def read(cls, args: Arguments) -> Self:
        n = args.option_integer("n", 5, 1, 1 << 16)
        if n % 2 == 0:
            args.problem(shapes.EvenNeighbours(n=n), "n")
        return cls(
            n=n,
            k=args.option_number("k", 2.0, 1e-6, 1e6),
            alpha=args.option_number("alpha", 1e-4, 0.0, 1e6),
            beta=args.option_number("beta", 0.75, 0.0, 100.0),
        )

    def write(self) -> str:
        usual = Lrn()
        return with_options(
            self.keyword,
            unless(usual.n, "n", self.n),
            unless(usual.k, "k", self.k),
            unless(usual.alpha, "alpha", self.alpha),
            unless(usual.beta, "beta", self.beta),
        )

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        return x

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        return nn.LocalResponseNorm(self.n, alpha=self._alpha_of_mean, beta=self.beta, k=self.k)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        return graph.node(
            "LRN", (x,), name, size=self.n, alpha=self._alpha_of_mean, beta=self.beta, bias=self.k
        )

    @property
    def _alpha_of_mean(self) -> float:
        return self.alpha * self.n
