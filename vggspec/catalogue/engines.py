"""Mistakes found while an engine is built (VGG60x to VGG62x)."""

from dataclasses import dataclass

from vggspec.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class BadProfile(Diagnostic):
    """An optimisation profile is three shapes, the smallest, the usual and the largest input, each
    written as images x rows x columns: ``--profile 1x256x256,2x256x341,8x256x512``. The channels
    may stand between: ``1x3x256x256``.
    """

    code = "VGG601"
    text: str
    why: str

    def title(self) -> str:
        return f"`--profile {self.text}` is no optimisation profile: {self.why}"

    def help(self) -> str | None:
        return "write min,opt,max, such as 1x256x256,2x256x341,8x256x512"


@dataclass(frozen=True, kw_only=True)
class ScaleBelowWindow(Diagnostic):
    """Profiles come from the scales of the spec's ``test:`` section, and a net cannot be applied to
    an image that is smaller than its window.
    """

    code = "VGG602"
    scale: int
    window: int

    def title(self) -> str:
        return f"scale {self.scale} is smaller than the net's window of {self.window} pixels"

    def help(self) -> str | None:
        return "give larger scales in `test:`, or write the profiles by `--profile`"
