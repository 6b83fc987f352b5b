"""Mistakes found when a net is quantised to int8 (VGG64x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class NoClassesToCompare(Diagnostic):
    """Whether an int8 net is accurate enough is measured by its likeliest classes on images that
    did not calibrate it. A net whose main output is boxes or the activations of a layer has none.
    """

    code = "VGG640"
    TITLE = "only nets that classify are quantised to int8; the output here is {output}"
    HELP = "use `--precision fp16`"
    output: str


class TooFewToCalibrate(Diagnostic):
    """One part of the images calibrates the net, and the other one measures how accurate it is
    afterwards. With a handful of images neither says anything about the images to come.
    """

    code = "VGG641"
    least: int
    found: int

    def title(self) -> str:
        return f"there are {count(self.found, 'image')} to calibrate with and to measure the result"

    def help(self) -> str | None:
        return (
            f"name a folder with at least {self.least} images, better several hundred: "
            "`--calibrate DIR`"
        )


class DropTooLarge(Diagnostic):
    """A net in int8 may be less accurate than in fp32, but not by more than ``--max-drop``. If it
    is, the images that calibrated it are unlike those that measured it, there are too few of them,
    or some layers need more than 256 levels.
    """

    code = "VGG642"
    before: float
    after: float
    measure: str
    images: int
    most: float
    kept: tuple[str, ...]

    def title(self) -> str:
        of = "top-1 accuracy" if self.measure == "accuracy" else "top-1 agreement with fp32"
        return (
            f"{of} on {count(self.images, 'held-out image')} falls from {self.before:.2f} % to "
            f"{self.after:.2f} %, by more than {self.most:g}"
        )

    def help(self) -> str | None:
        kept = " ".join(f"--keep-fp32 {name}" for name in self.kept)
        lines = [
            "no bundle was written; keep more layers in fp32 with `--keep-fp32 LAYER`"
            + (f" (now: `{kept}`)" if kept else "")
            + ",",
            "calibrate with more images, `--calibration-images N`, use `--precision fp16`,",
            "or allow it with `--max-drop POINTS`",
        ]
        if 100 / self.images > self.most:
            lines.append(f"one image of {self.images} is {100 / self.images:.1f} points")
        return "\n".join(lines)


class NothingToQuantise(Diagnostic):
    """Convs and FC layers are what is computed in int8. If all of them stay in fp32 there is none
    left.
    """

    code = "VGG643"
    TITLE = "no conv or FC layer is left to compute in int8"
    HELP = "remove `--keep-fp32`, or compile with `--precision fp32`"
