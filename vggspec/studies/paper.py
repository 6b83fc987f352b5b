"""The errors that the paper measured on ImageNet: Tables 3 to 6 as data.

Source: Simonyan & Zisserman 2015 (arXiv 1409.1556v6), sections 4.1 (Table 3), 4.2 (Table 4), 4.3
(Table 5) and 4.4 (Table 6); errors on the 50,000 validation images of ILSVRC-2012, in percent.

S is the smallest side of a training image in pixels, Q that of a test image.
"""

from dataclasses import dataclass
from typing import Literal

EvaluationMethod = Literal["dense", "multi-crop", "multi-crop & dense"]
TableName = Literal["table3", "table4", "table5", "table6"]

GRID = 5  # section 3.2: 5 × 5 crops a scale, each with its mirror image
JITTERED = "256..512"


@dataclass(frozen=True, slots=True)
class Trained:
    """A net, and the scales S that it was trained at."""

    net: str
    """Its spec among those that come with vggspec."""

    scale: str
    """``256``, or ``256..512`` where S was drawn for each image."""

    @property
    def name(self) -> str:
        """The name of its weights: ``D-256``."""
        return f"{self.net}-{self.scale}"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table."""

    nets: tuple[Trained, ...]
    scales: tuple[int, ...]
    """Each Q; posteriors are averaged over them."""

    top1: float
    top5: float
    evaluation: EvaluationMethod = "dense"


def _rows(
    scale: str, scales: tuple[int, ...], errors: dict[str, tuple[float, float]]
) -> tuple[TableRow, ...]:
    return tuple(
        TableRow((Trained(net, scale),), scales, top1, top5) for net, (top1, top5) in errors.items()
    )


def _ways(nets: str, errors: dict[EvaluationMethod, tuple[float, float]]) -> tuple[TableRow, ...]:
    trained = tuple(Trained(net, JITTERED) for net in nets)
    return tuple(
        TableRow(trained, (256, 384, 512), top1, top5, evaluation)
        for evaluation, (top1, top5) in errors.items()
    )


TABLES: dict[TableName, tuple[TableRow, ...]] = {
    "table3": (
        *_rows(
            "256",
            (256,),
            {
                "A": (29.6, 10.4),
                "A-LRN": (29.7, 10.5),
                "B": (28.7, 9.9),
                "C": (28.1, 9.4),
                "D": (27.0, 8.8),
                "E": (27.3, 9.0),
            },
        ),
        *_rows("384", (384,), {"C": (28.1, 9.3), "D": (26.8, 8.7), "E": (26.9, 8.7)}),
        *_rows(JITTERED, (384,), {"C": (27.3, 8.8), "D": (25.6, 8.1), "E": (25.5, 8.0)}),
    ),
    "table4": (
        *_rows(
            "256",
            (224, 256, 288),
            {"B": (28.2, 9.6), "C": (27.7, 9.2), "D": (26.6, 8.6), "E": (26.9, 8.7)},
        ),
        *_rows("384", (352, 384, 416), {"C": (27.8, 9.2), "D": (26.5, 8.6), "E": (26.7, 8.6)}),
        *_rows(JITTERED, (256, 384, 512), {"C": (26.3, 8.2), "D": (24.8, 7.5), "E": (24.8, 7.5)}),
    ),
    "table5": (
        *_ways(
            "D",
            {"dense": (24.8, 7.5), "multi-crop": (24.6, 7.5), "multi-crop & dense": (24.4, 7.2)},
        ),
        *_ways(
            "E",
            {"dense": (24.8, 7.5), "multi-crop": (24.6, 7.4), "multi-crop & dense": (24.4, 7.1)},
        ),
    ),
    "table6": _ways(
        "DE",
        {"dense": (24.0, 7.1), "multi-crop": (23.9, 7.2), "multi-crop & dense": (23.7, 6.8)},
    ),
}
