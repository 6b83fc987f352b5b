"""How far posteriors can be believed: of images named with 80 % confidence, 80 % should be right.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 2: reliability diagrams,
and the expected calibration error of equation 3, with 15 bins of equal width.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Images whose confidence is above ``low`` and at most ``high``."""

    low: float
    high: float
    images: int
    confidence: float
    """Their mean posterior of the class that was named."""

    accuracy: float
    """The share of them that is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The confidence of a net beside its accuracy."""

    bins: tuple[Bin, ...]
    """Those that contain images."""

    @property
    def error(self) -> float:
        """The expected calibration error, from 0 to 1: the mean over all images of the distance
        between confidence and accuracy in their bins.
        """
        images = sum(each.images for each in self.bins)
        away = math.fsum(each.images * abs(each.accuracy - each.confidence) for each in self.bins)
        return away / max(images, 1)

    @property
    def confidence(self) -> float:
        """The mean confidence; above the accuracy, the net is too sure of itself."""
        images = sum(each.images for each in self.bins)
        return math.fsum(each.images * each.confidence for each in self.bins) / max(images, 1)

    def as_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "error": self.error,
            "confidence": self.confidence,
            "bins": [asdict(each) for each in self.bins],
        }


def calibrated(answers: Iterable[tuple[float, bool]]) -> Calibration:
    """The calibration of answers: the posterior of the class that was named, and whether it is
    right. Their order changes nothing.
    """
    sure: dict[int, list[float]] = {}
    right: dict[int, int] = {}
    for confidence, is_right in answers:
        inside = min(1.0, max(0.0, confidence))
        place = max(0, math.ceil(inside * BINS) - 1)
        sure.setdefault(place, []).append(inside)
        right[place] = right.get(place, 0) + is_right
    return Calibration(
        bins=tuple(
            Bin(
                low=place / BINS,
                high=(place + 1) / BINS,
                images=len(sure[place]),
                confidence=math.fsum(sure[place]) / len(sure[place]),
                accuracy=right[place] / len(sure[place]),
            )
            for place in sorted(sure)
        )
    )
