"""How the ranges of an int8 net were measured, and how accurate it was afterwards."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vggspec.base.bounds import Range, Sha256
from vggspec.base.recipe import MAX_SCALE

Measure = Literal["accuracy", "agreement"]
"""The share of images whose likeliest class is the true one, or is that of the fp32 net."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The calibration of an int8 net."""

    method: Literal["min-max"]
    """``min-max``: a layer's range is that of its numbers over all images."""

    images: Annotated[int, Range(1)]
    images_sha256: Sha256
    """Of the images that calibrated: the name of each, from the folder on, and the SHA-256 of its
    file."""

    scale: Annotated[int, Range(1, MAX_SCALE)]
    """The smallest side that an image was rescaled to before its centre was taken."""

    held_out: Annotated[int, Range(1)]
    """Images that measured the accuracy, none of which calibrated."""

    measure: Measure
    before: Annotated[float, Range(0, 100)]
    """Of the fp32 net, in per cent; 100 for ``agreement``."""

    after: Annotated[float, Range(0, 100)]
    """Of the int8 net."""

    agreement: Annotated[float, Range(0, 100)]
    """Images for which both nets have the same likeliest class, in per cent."""

    def in_words(self) -> str:
        """The accuracy before and after: ``top-1 91.20 % in fp32, 91.00 % in int8 …``."""
        of = f"on {self.held_out} held-out images"
        if self.measure == "agreement":
            return f"the same likeliest class as fp32 {of}: {self.agreement:.2f} %"
        return (
            f"top-1 accuracy {of}: {self.before:.2f} % in fp32, {self.after:.2f} % in int8; the "
            f"same class for {self.agreement:.2f} %"
        )

    @property
    def drop(self) -> float:
        """By how many points the int8 net is worse; negative if it is better."""
        return self.before - self.after
