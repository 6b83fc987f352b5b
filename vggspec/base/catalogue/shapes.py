"""Mistakes in the shapes of layers' inputs and outputs (VGG2xx)."""

import math
from fractions import Fraction

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


def chw(shape: tuple[int, ...]) -> str:
    """Height × width × channels, or channels alone: ``14 × 14 × 512``."""
    return " × ".join(str(n) for n in (*shape[1:], shape[0]))


_MEET = (
    "give all branches the same stride, padding and rounding (`ceil`),\n"
    "or cut the larger one with `crop(NAME)`, by the name of the other"
)


class WindowTooLarge(Diagnostic):
    """The receptive field of a conv is larger than the feature map and its padding.

    No window fits then:

        input 4x4 gray
        conv7-8(pad 0)      wrong: 7 × 7 does not fit 4 × 4
        conv7-8(pad 2)      right: 4 + 2 + 2 is 8
    """

    code = "VGG201"
    HELP = "write a smaller receptive field, more `pad`, or a larger input"
    window: tuple[int, int]
    shape: tuple[int, ...]

    def title(self) -> str:
        return f"a {self.window[0]} × {self.window[1]} window does not fit the feature map"

    def label(self) -> str:
        return f"input here is {chw(self.shape)}"


class EvenKernel(Diagnostic):
    """No padding keeps the resolution of an even receptive field.

    By default a conv of size k is padded by (k - 1) / 2 on each side, so k must be odd. For an even
    k, write the padding explicitly.

        conv2-64            wrong
        conv2-64(pad 0)     right
    """

    code = "VGG202"
    HELP = "use an odd receptive field, or write `(pad 0)`"
    kernel: tuple[int, int]

    def title(self) -> str:
        height, width = self.kernel
        return f"no padding keeps the resolution of a {height} × {width} receptive field"


class Groups(Diagnostic):
    """``groups`` does not divide the channels into equal parts.

    It must divide both the input and the output channels, as in the two towers of AlexNet.

        input 224x224 RGB
        conv3-64(groups 2)     wrong: RGB has 3 channels
    """

    code = "VGG203"
    TITLE = "{groups} groups do not divide {channels_in} channels in and {channels_out} out"
    LABEL = "the input has {channels_in:count channel}"
    groups: int
    channels_in: int
    channels_out: int

    def help(self) -> str | None:
        both = math.gcd(self.channels_in, self.channels_out)
        fits = next((n for n in range(min(self.groups, both), 1, -1) if both % n == 0), 1)
        return f"write `groups {fits}`" if fits > 1 else "leave `groups` out"


class PoolPadding(Diagnostic):
    """The padding of a pooling layer is more than half of its window.

    Otherwise a window could contain nothing but padding.

        maxpool3/2(pad 2)     wrong
        maxpool3/2(pad 1)     right
    """

    code = "VGG204"
    TITLE = "padding {pad} is more than half of the window of {window}"
    window: int
    pad: int

    def help(self) -> str | None:
        return f"write `pad {self.window // 2}` or less"


class NoMapLeft(Diagnostic):
    """A layer that needs a feature map comes after a fully connected one.

    An FC returns a vector; conv, pooling, ``LRN`` and ``gap`` need rows and columns.

        FC-4096
        maxpool      wrong: there is nothing left to pool
    """

    code = "VGG205"
    TITLE = "{layer} needs a feature map"
    HELP = "move it above the first FC"
    layer: str
    shape: tuple[int, ...]

    def label(self) -> str:
        return f"input here is a vector of {count(self.shape[0], 'number')}"


class NoMapToLabel(Diagnostic):
    """``soft-max(map)`` gives a label to each position of a map; an FC has left a vector.

    Write the FCs as convolutions, the first one with the window that it would see:

        maxpool                  7 x 7 positions
        conv7-4096(pad 0)        an FC-4096
        conv1-21
        soft-max(map)
    """

    code = "VGG244"
    TITLE = "soft-max(map) needs a feature map"
    HELP = "write FCs as convolutions, or `soft-max` for one class of the whole image"
    shape: tuple[int, ...]

    def label(self) -> str:
        return f"input here is a vector of {count(self.shape[0], 'number')}"


class TooManyWeights(Diagnostic):
    """The net has more weights than vggspec supports.

    Check for a number with too many digits, or pool before the first FC.

        input 60000x60000 RGB
        FC-4096                   wrong: 4096 times 10.8 billion
    """

    code = "VGG206"
    TITLE = "the net needs {parameters:.3g} weights, more than {limit:.0e}"
    LABEL = "up to here"
    HELP = "check the channels, or pool more before the first FC"
    parameters: int
    limit: int


class BoxChannels(Diagnostic):
    """The layer before ``boxes`` does not have four channels per box.

    A box is four numbers: centre x, centre y, width, height (appendix A of the paper). With
    ``boxes(shared)`` the layer before has 4 channels, with ``boxes(per-class)`` 4 per class.

        FC-1000(linear) boxes(shared)        wrong
        FC-4(linear) boxes(shared)           right
        FC-4000(linear) boxes(per-class)     right: 1000 classes
    """

    code = "VGG208"
    channels: int
    shared: bool

    def title(self) -> str:
        needed = "4" if self.shared else "a multiple of 4"
        return f"boxes need {needed} channels, the layer before has {self.channels}"

    def help(self) -> str | None:
        if self.shared:
            return "write `FC-4(linear)` before it"
        return "write 4 channels per class, as in `FC-4000(linear)` for 1000 classes"


class FixedInput(Diagnostic):
    """A net with FC layers takes images of one size.

    A fully connected layer has one weight for each input. Applied densely (section 3.2 of the
    paper) they are convolutions, and the net takes any larger size.

        vggspec show specs/D.vgg --at 384x512           wrong
        vggspec show specs/D.vgg --at 384x512 --dense   right
    """

    code = "VGG209"
    TITLE = "{layer} takes a map of one size"
    HELP = "apply the net densely: add `--dense`"
    layer: str
    made_for: tuple[int, ...]
    given: tuple[int, ...]

    def label(self) -> str:
        return f"made for {chw(self.made_for)}, here {chw(self.given)}"


class EvenNeighbours(Diagnostic):
    """The ``n`` of LRN is even.

    LRN sums over as many channels on both sides of a channel, so ``n`` is odd (section 3.3 of
    Krizhevsky et al. 2012).

        LRN(n 4)     wrong
        LRN(n 5)     right
    """

    code = "VGG211"
    TITLE = "LRN over {n} channels has no middle"
    n: int

    def help(self) -> str | None:
        return f"write `n {self.n + 1}` or `n {self.n - 1}`"


class PoolEmpties(Diagnostic):
    """The pooling window is larger than the feature map, so nothing is left.

    Every ``maxpool`` halves the map, rounding down: an input of 24 × 24 is 12, 6, 3, 1 after
    four, and a fifth has nothing to pool.

        input 24x24 RGB
        maxpool maxpool maxpool maxpool maxpool     wrong
        maxpool maxpool maxpool maxpool             right
    """

    code = "VGG231"
    TITLE = "{layer} makes the feature map empty"
    layer: str
    shape: tuple[int, ...]
    input: tuple[int, int]
    needed: tuple[int, int] | None
    pools: int

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


class CannotAdd(Diagnostic):
    """Branches that are added have different shapes.

    Nothing is broadcast, padded or cropped silently. ``shortcut`` fits a branch to the others with
    a 1 × 1 conv, ``crop(NAME)`` cuts a map to the size of another one.

        [conv3-64 conv3-32 + identity]     wrong, where 64 channels enter
        [conv3-64 conv3-32 + shortcut]     right
    """

    code = "VGG241"
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    strides: tuple[int | Fraction, int | Fraction] | None = None
    """Pixels from one position to the next, of both."""

    def title(self) -> str:
        first, second = self.shapes
        if first[1:] == second[1:]:
            return f"cannot add {first[0]} and {second[0]} channels"
        return f"cannot add {chw(first)} and {chw(second)}"

    def label(self) -> str:
        if self.strides is None or self.strides[0] == self.strides[1]:
            return ""
        return f"a position every {self.strides[0]} and every {self.strides[1]} pixels"

    def help(self) -> str | None:
        first, second = self.shapes
        if first[1:] == second[1:]:
            return "write `shortcut` for a branch without layers, or the same channels in all"
        if self.strides is not None and self.strides[0] == self.strides[1]:
            return _MEET
        return "give all branches the same stride, or write `shortcut` for one without layers"


class CannotJoin(Diagnostic):
    """Branches whose channels are joined have different rows or columns.

    Nothing is padded or cropped, unless ``crop(NAME)`` says so.

        [conv3-64/2 & conv1-64]        wrong: 112 × 112 and 224 × 224
        [conv3-64/2 & conv1-64/2]      right
    """

    code = "VGG242"
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    def title(self) -> str:
        first, second = self.shapes
        if len(first) != len(second):
            return "cannot join a feature map and a vector"
        return f"cannot join {first[1]} × {first[2]} and {second[1]} × {second[2]}"

    def help(self) -> str | None:
        if len(self.shapes[0]) != len(self.shapes[1]):
            return "write the FC after the bracket"
        return _MEET
