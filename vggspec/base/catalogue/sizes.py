"""Sizes of images at which the branches of a net do not meet (VGG26x)."""

from vggspec.base.diagnostic import Diagnostic

Size = tuple[int, int]


def _by(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


class LongPeriod(Diagnostic):
    """Whether branches meet depends on the remainder of the image's size, divided by their strides.
    The remainders are tried one by one, up to 4096 of them; the strides of known nets divide 64.

        [conv3-8/99 conv3-8/99 + conv1-8/99 conv1-8/99]      wrong: 9801 remainders
        [conv3-8/9 conv3-8/9 + conv1-8/9 conv1-8/9]          right: 81
    """

    code = "VGG261"
    TITLE = "branches meet or not with a period of {period} pixels, more than {limit}"
    HELP = "use smaller strides before the branches meet, or compile the net with `--crop`"
    period: int
    limit: int


class BranchesDoNotMeet(Diagnostic):
    """Maps that a net adds or joins must have the same rows and columns. Strides round, so with
    some image sizes one branch may have a row more than the other. Nothing is padded or cropped
    silently: such an image is refused before it is run.

        vggspec inspect FCN-8s      says: sizes multiples of 32

    Poolings that round up (``--pool ceil``) often let branches meet for every size.
    """

    code = "VGG262"
    NOTE = "sizes that fit: {fits}"
    size: Size
    fits: str
    nearest: tuple[Size, ...]
    is_rescaled: bool = True
    """Whether images are rescaled to it, to scales that the user may name."""

    def title(self) -> str:
        return f"the branches of the net do not meet for an image of {_by(self.size)}"

    def help(self) -> str | None:
        fit = "fits" if len(self.nearest) == 1 else "fit"
        other = "give other `--scales`" if self.is_rescaled else "rescale it"
        return f"crop it, or {other}: {' and '.join(map(_by, self.nearest))} {fit}"


class ProfileHasGaps(Diagnostic):
    """A profile of an engine is a range of sizes, and the branches of the net do not meet for all
    of them: the engine would fail, or give wrong numbers, for those in between.

        --profile 1x256x256,2x256x320,8x256x512      wrong for multiples of 32
        --profile 1x256x320,2x256x320,8x256x320      right

    The three shapes may differ in the number of images only. The profiles that follow from the
    scales of ``test:`` are ranges, too: which sizes your images have, rescaled to these scales,
    only you know.
    """

    code = "VGG263"
    NOTE = "sizes that fit: {fits}"
    profile: str
    fits: str
    is_derived: bool
    """Whether it follows from ``test:``, and the user did not write it."""

    examples: tuple[str, ...]
    """Profiles of one size each; none where the user cannot write any."""

    def title(self) -> str:
        of_test = ", which follows from `test:`," if self.is_derived else ""
        has = "has sizes at which the branches of the net do not meet"
        return f"the profile {self.profile}{of_test} {has}"

    def help(self) -> str | None:
        if not self.examples:
            return "run it without TensorRT, such as with `--device cuda`"
        options = " ".join(f"--profile {example}" for example in self.examples)
        have = " that your images have" if self.is_derived else ""
        return f"write a profile for each size{have}, such as `{options}`"


class NotForPictures(Diagnostic):
    """A graph with the test protocol takes pictures of any size and rescales them, so that they
    keep their proportions. Where branches of a net do not meet for all sizes, most pictures would
    fail.

        vggspec compile FCN-8s --protocol                 wrong for multiples of 32
        vggspec compile FCN-8s --protocol --pool ceil     right for every size
    """

    code = "VGG264"
    TITLE = "a graph with the test protocol takes pictures of any size, and this net does not"
    HELP = "compile it without `--protocol`; `--pool ceil` may let its branches meet"
    NOTE = "sizes that fit: {fits}"
    fits: str
