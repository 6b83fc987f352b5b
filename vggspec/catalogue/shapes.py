"""Mistakes about the shapes that layers take and give (VGG2xx)."""

from dataclasses import dataclass

from vggspec.catalogue import count
from vggspec.diagnostic import Diagnostic


def chw(shape: tuple[int, ...]) -> str:
    """Height × width × channels, or channels alone: ``14 × 14 × 512``."""
    return " × ".join(str(n) for n in (*shape[1:], shape[0]))


@dataclass(frozen=True, kw_only=True)
class WindowTooLarge(Diagnostic):
    """A conv whose padding does not make up for its receptive field needs a feature map at least
    as large as the field.

        input 4x4 gray
        conv7-8(pad 0)      wrong: no 7 × 7 window fits a 4 × 4 map
    """

    code = "VGG201"
    window: tuple[int, int]
    shape: tuple[int, ...]

    def title(self) -> str:
        return f"a {self.window[0]} × {self.window[1]} window does not fit the feature map"

    def label(self) -> str:
        return f"input here is {chw(self.shape)}"

    def help(self) -> str | None:
        return "write a smaller receptive field, more `pad`, or a larger input"


@dataclass(frozen=True, kw_only=True)
class EvenKernel(Diagnostic):
    """Padding that keeps the resolution is half of the receptive field less one on both sides;
    for an even field there is none. Write the padding that is meant.

        conv2-64            wrong
        conv2-64(pad 0)     right
    """

    code = "VGG202"
    kernel: tuple[int, int]

    def title(self) -> str:
        height, width = self.kernel
        return f"no padding keeps the resolution of a {height} × {width} receptive field"

    def help(self) -> str | None:
        return "use an odd receptive field, or write `(pad 0)`"


@dataclass(frozen=True, kw_only=True)
class Groups(Diagnostic):
    """``groups`` divides both the channels that come in and those that go out into equal parts,
    as the two towers of AlexNet do.
    """

    code = "VGG203"
    groups: int
    channels_in: int
    channels_out: int

    def title(self) -> str:
        return (
            f"{self.groups} groups do not divide {self.channels_in} channels in"
            f" and {self.channels_out} out"
        )


@dataclass(frozen=True, kw_only=True)
class PoolPadding(Diagnostic):
    """A pooling window that lies on padding alone would have nothing to pool, so the padding is
    at most half of the window.
    """

    code = "VGG204"
    window: int
    pad: int

    def title(self) -> str:
        return f"padding {self.pad} is more than half of the window of {self.window}"

    def help(self) -> str | None:
        return f"write `pad {self.window // 2}` or less"


@dataclass(frozen=True, kw_only=True)
class NoMapLeft(Diagnostic):
    """A fully connected layer gives a vector; conv, pooling, ``LRN`` and ``gap`` want a feature
    map.

        FC-4096
        maxpool      wrong: there is nothing left to pool
    """

    code = "VGG205"
    layer: str
    shape: tuple[int, ...]

    def title(self) -> str:
        return f"{self.layer} wants a feature map"

    def label(self) -> str:
        return f"input here is a vector of {count(self.shape[0], 'number')}"

    def help(self) -> str | None:
        return "move it above the first FC"


@dataclass(frozen=True, kw_only=True)
class TooManyWeights(Diagnostic):
    """The net has more weights than vggspec will handle. Look for a number with too many digits,
    or pool before the first FC.
    """

    code = "VGG206"
    parameters: int
    limit: int

    def title(self) -> str:
        return f"the net needs {self.parameters:.3g} weights up to here, more than {self.limit:.0e}"

    def help(self) -> str | None:
        return "check the channels, or pool more before the first FC"


@dataclass(frozen=True, kw_only=True)
class BoxChannels(Diagnostic):
    """A box is four numbers: centre x, centre y, width, height (appendix A of the paper). With
    ``boxes(shared)`` the layer before has 4 channels, with ``boxes(per-class)`` 4 a class.

        FC-4000(linear)
        boxes(per-class)      1000 classes
    """

    code = "VGG208"
    channels: int
    shared: bool

    def title(self) -> str:
        want = "4" if self.shared else "a multiple of 4"
        return f"boxes want {want} channels, the layer before has {self.channels}"

    def help(self) -> str | None:
        return "write `FC-4(linear)`" if self.shared else "write 4 channels a class"


@dataclass(frozen=True, kw_only=True)
class FixedInput(Diagnostic):
    """A fully connected layer has one weight for each input, so a net with FC layers takes images
    of one size. Applied densely (section 3.2 of the paper) they are convolutions, and the net
    takes any larger size.

        vggspec show specs/D.vgg --at 384x512           wrong
        vggspec show specs/D.vgg --at 384x512 --dense   right
    """

    code = "VGG209"
    layer: str
    made_for: tuple[int, ...]
    given: tuple[int, ...]

    def title(self) -> str:
        return f"{self.layer} takes a map of one size"

    def label(self) -> str:
        return f"made for {chw(self.made_for)}, here {chw(self.given)}"

    def help(self) -> str | None:
        return "apply the net densely: add `--dense`"


@dataclass(frozen=True, kw_only=True)
class EvenNeighbours(Diagnostic):
    """LRN sums over as many channels on both sides of a channel, so ``n`` is odd (section 3.3 of
    Krizhevsky et al. 2012).
    """

    code = "VGG211"
    n: int

    def title(self) -> str:
        return f"LRN over {self.n} channels has no middle"

    def help(self) -> str | None:
        return f"write `n {self.n + 1}` or `n {self.n - 1}`"


@dataclass(frozen=True, kw_only=True)
class PoolEmpties(Diagnostic):
    """The pooling window is larger than the feature map, so nothing is left.

    Every ``maxpool`` halves the map, rounding down: an input of 24 × 24 is 12, 6, 3, 1 after
    four, and a fifth has nothing to pool.
    """

    code = "VGG231"
    layer: str
    shape: tuple[int, ...]
    input: tuple[int, int]
    needed: tuple[int, int] | None
    pools: int

    def title(self) -> str:
        return f"{self.layer} makes the feature map empty"

    def label(self) -> str:
        return f"input here is {chw(self.shape)}"

    def help(self) -> str | None:
        height, width = self.input
        text = f"the input is {height} × {width}"
        if self.needed is None:
            return text
        verb = "needs" if self.pools == 1 else "need"
        return (
            f"{text}; {count(self.pools, 'pooling')} {verb} at least"
            f" {self.needed[0]} × {self.needed[1]}"
        )
