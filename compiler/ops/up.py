"""Up-sampling by a whole factor, written ``up2`` or ``up2(bilinear)``.

Both are those of PyTorch and, for ``bilinear``, of OpenCV: the maps as a whole lie upon each other,
so that the corners of their first positions do (``align_corners=False``).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar, Self

from vggspec.base.catalogue import shapes
from vggspec.compiler.ops.op import Names, Op, Reach, TorchNN, with_options
from vggspec.compiler.ops.syntax import Arguments, Syntax
from vggspec.compiler.tensor import MisfitError, TensorType, Types

if TYPE_CHECKING:
    from vggspec.compiler.backends.onnx.graph import OnnxGraph

#: From 41 on PyTorch takes a wrong neighbour at some positions: it multiplies by 1 / 41 in fp32.
MAX_FACTOR = 32

#: Attributes of ONNX's Resize.
NEAREST: dict[str, str] = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
BILINEAR: dict[str, str] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Up(Op):
    """Repeats each position ``factor`` times in both directions, or interpolates between them.

    In   ``(C, H, W)``
    Out  ``(C, factor H, factor W)``
    """

    keyword: ClassVar[str] = "up"
    syntax: ClassVar[Syntax | None] = Syntax(
        "up", r"(?P<factor>\d+)", "up<factor>, such as `up2`", ("",)
    )

    factor: int
    bilinear: bool = False

    @classmethod
    def read(cls, args: Arguments) -> Self:
        return cls(
            factor=args.integer("factor", 2, "a factor of", 2, MAX_FACTOR),
            bilinear=args.flag("bilinear"),
        )

    def write(self) -> str:
        return with_options(f"{self.keyword}{self.factor}", "bilinear" if self.bilinear else "")

    def infer(self, inputs: Types) -> TensorType:
        (x,) = inputs
        if not x.is_map:
            raise MisfitError(shapes.NoMapLeft(layer=self.keyword, shape=x.shape))
        return TensorType((x.channels, *(n * self.factor for n in x.size)))

    def reach(self, inputs: Types) -> Reach:
        size, start = reach_of(self.factor, bilinear=self.bilinear)
        step = Fraction(1, self.factor)
        return Reach((size, size), (step, step), (start, start))

    def to_torch(self, nn: TorchNN, inputs: Types) -> Any:
        more = {"mode": "bilinear"} if self.bilinear else {}
        return nn.Upsample(scale_factor=self.factor, **more)

    def to_onnx(self, graph: "OnnxGraph", inputs: Names, params: Names, name: str) -> str:
        (x,) = inputs
        scales = graph.numbers(f"{name}.scales", (1, 1, self.factor, self.factor))
        attributes = BILINEAR if self.bilinear else NEAREST
        return graph.node("Resize", (x, "", scales), name, **attributes)


def reach_of(factor: int | Fraction, *, bilinear: bool) -> tuple[Fraction, Fraction]:
    """The size of the window that all output positions see of the input, and where it begins for
    the first: each sees a part of it.
    """
    step = 1 / Fraction(factor)
    parts = step.denominator
    if not bilinear:  # floor(i step)
        return 2 - Fraction(1, parts), Fraction(1, parts) - 1
    # Between the two beside (i + 1/2) step - 1/2: a multiple of 1 / parts, or halfway.
    is_between = (step.numerator - parts) % 2 == 1
    ahead = 1 - Fraction(1, 2 * parts if is_between else parts)
    return 2 * ahead + 1, (step - 1) / 2 - ahead
