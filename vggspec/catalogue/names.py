"""Mistakes about layers, their arguments, names, claims and nets (VGG1xx)."""

from dataclasses import dataclass

from vggspec.catalogue import count, either
from vggspec.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class UnknownLayer(Diagnostic):
    """No layer is written this way. The layers are

        conv3-64  maxpool  avgpool  LRN  BN  dropout  FC-4096  gap  soft-max  boxes

    and case does not matter. ReLU is implied after every conv and FC but the last.
    """

    code = "VGG101"
    word: str
    suggestion: str | None = None
    because: str | None = None

    def title(self) -> str:
        return f"unknown layer `{self.word}`"

    def help(self) -> str | None:
        if self.because:
            return self.because
        return f"did you mean `{self.suggestion}`?" if self.suggestion else None


@dataclass(frozen=True, kw_only=True)
class MalformedLayer(Diagnostic):
    """The layer is known, but its numbers are not written as they should be.

        conv64      wrong           FC4096      wrong
        conv3-64    right           FC-4096     right

    A conv is ``conv<receptive field>-<channels>``, as in the paper's Table 1, and ``/2`` after it
    is a stride; a pooling layer is ``maxpool<window>/<stride>``, 2 and 2 unless written.
    """

    code = "VGG102"
    word: str
    form: str
    suggestion: str

    def title(self) -> str:
        return f"`{self.word}` is not written as a layer"

    def label(self) -> str:
        return f"expected {self.form}"

    def help(self) -> str | None:
        return f"write `{self.suggestion}`"


@dataclass(frozen=True, kw_only=True)
class OutOfRange(Diagnostic):
    """A number is too small to mean anything, or larger than any machine could use.

    conv0-64        wrong: a receptive field of nothing
    conv3-64 x0     wrong: leave the line out instead
    """

    code = "VGG103"
    what: str
    value: str
    low: str
    high: str

    def title(self) -> str:
        return f"{self.what} {self.value} is out of range"

    def label(self) -> str:
        return f"expected {self.low} to {self.high}"


@dataclass(frozen=True, kw_only=True)
class UnknownOption(Diagnostic):
    """The layer has no such option.

    conv:      pad, groups, dilation, linear, no-bias
    maxpool:   pad, ceil
    avgpool:   pad, ceil
    LRN:       n, k, alpha, beta
    BN:        eps, momentum
    FC:        linear, no-bias
    dropout:   the rate, such as dropout(0.5)
    boxes:     per-class or shared
    input:     mean, std, scale
    """

    code = "VGG104"
    owner: str
    word: str
    known: tuple[str, ...]
    suggestion: str | None = None

    def title(self) -> str:
        return f"{self.owner} has no option `{self.word}`"

    def label(self) -> str:
        return f"expected {either(self.known)}" if self.known else "it takes none"

    def help(self) -> str | None:
        return f"did you mean `{self.suggestion}`?" if self.suggestion else None


@dataclass(frozen=True, kw_only=True)
class OptionTwice(Diagnostic):
    """An option is written once."""

    code = "VGG105"
    word: str

    def title(self) -> str:
        return f"the option `{self.word}` is written twice"

    def help(self) -> str | None:
        return "keep one of them"


@dataclass(frozen=True, kw_only=True)
class OptionValue(Diagnostic):
    """The option wants another kind of value.

        conv3-64(pad same)     wrong
        conv3-64(pad 1)        right
    """

    code = "VGG106"
    word: str
    expected: str

    def title(self) -> str:
        return f"`{self.word}` is not written this way"

    def label(self) -> str:
        return f"expected {self.expected}"


@dataclass(frozen=True, kw_only=True)
class NameTaken(Diagnostic):
    """Two layers of a net have the same name. Names are chosen by ``as``; the others are made
    from the place of the layer: conv1_1, pool1, fc6.
    """

    code = "VGG108"
    name: str

    def title(self) -> str:
        return f"the name `{self.name}` is taken"

    def help(self) -> str | None:
        return "choose another name after `as`"


@dataclass(frozen=True, kw_only=True)
class UnusableName(Diagnostic):
    """A layer's name is also its name in the PyTorch module, in the weights file and in the ONNX
    graph. So it begins with a letter, goes on with letters, digits and ``_``, and is not a word
    of Python or of ``torch.nn.Module``.
    """

    code = "VGG109"
    name: str
    because: str

    def title(self) -> str:
        return f"`{self.name}` cannot be a layer's name"

    def label(self) -> str:
        return self.because

    def help(self) -> str | None:
        return "use letters, digits and `_`, such as `conv1_1`"


@dataclass(frozen=True, kw_only=True)
class RepeatedName(Diagnostic):
    """A repeated layer is several layers, and one name cannot serve them.

    conv3-64 x2 as conv1                  wrong
    conv3-64 as conv1  conv3-64 as conv2  right
    """

    code = "VGG110"

    def title(self) -> str:
        return "a repeated layer cannot have one name"

    def help(self) -> str | None:
        return "write the layers one by one, or leave the name out"


@dataclass(frozen=True, kw_only=True)
class TooManyLayers(Diagnostic):
    """The net has more layers than any machine could train. Look for a repeat with too many
    digits.
    """

    code = "VGG111"
    limit: int

    def title(self) -> str:
        return f"the net has more than {self.limit} layers"

    def help(self) -> str | None:
        return "lower the repeat"


@dataclass(frozen=True, kw_only=True)
class NormWithoutConv(Diagnostic):
    """``BN`` normalises the conv or FC directly before it, ahead of the implied ReLU.

        maxpool BN          wrong
        conv3-64 BN maxpool right
    """

    code = "VGG112"

    def title(self) -> str:
        return "BN has no conv or FC before it"

    def help(self) -> str | None:
        return "write it directly after a conv or an FC"


@dataclass(frozen=True, kw_only=True)
class AfterTheEnd(Diagnostic):
    """``soft-max`` gives the result of a net, ``boxes`` says what the result is: nothing comes
    after them.
    """

    code = "VGG113"
    last: str

    def title(self) -> str:
        return f"a layer after `{self.last}`"

    def label(self) -> str:
        return f"`{self.last}` is the end of the net"

    def help(self) -> str | None:
        return f"move `{self.last}` to the end"


@dataclass(frozen=True, kw_only=True)
class UnknownColour(Diagnostic):
    """An input is ``RGB``, ``BGR`` or ``gray``. BGR is the order of Caffe's nets."""

    code = "VGG114"
    word: str

    def title(self) -> str:
        return f"unknown kind of image `{self.word}`"

    def label(self) -> str:
        return "expected RGB, BGR or gray"


@dataclass(frozen=True, kw_only=True)
class ChannelCount(Diagnostic):
    """``mean`` and ``std`` have one number for each channel, in the order of the input's
    channels, or one number for all. They are in the units of the image, 0 to 255.

        input 224x224 RGB(mean 123.68 116.779 103.939)
        input 224x224 BGR(mean 103.939 116.779 123.68)
    """

    code = "VGG115"
    word: str
    found: int
    channels: int

    def title(self) -> str:
        return f"`{self.word}` has {count(self.found, 'number')}, the image has {self.channels}"

    def label(self) -> str:
        return f"expected {self.channels} numbers, or one for all"


@dataclass(frozen=True, kw_only=True)
class ScaleAndStd(Diagnostic):
    """The net sees ``(x - mean) * scale`` or ``(x - mean) / std``, x from 0 to 255. With both it
    would be unclear whether the mean is in the units before or after the scale.

        input 224x224 RGB(std 58.4 57.1 57.4)     as torchvision: 0.229 * 255 = 58.395
    """

    code = "VGG116"

    def title(self) -> str:
        return "`scale` and `std` are both written"

    def help(self) -> str | None:
        return "keep `std`, in units of 0 to 255, or `scale`"


@dataclass(frozen=True, kw_only=True)
class FalseWeightLayers(Diagnostic):
    """The number of weight layers that the spec claims is not the number it has. Weight layers
    are the conv and FC layers (section 2.1 of the paper).
    """

    code = "VGG117"
    claimed: int
    actual: int
    breakdown: str

    def title(self) -> str:
        return f"the net has {count(self.actual, 'weight layer')}, not {self.claimed}"

    def label(self) -> str:
        return self.breakdown


@dataclass(frozen=True, kw_only=True)
class FalseParameters(Diagnostic):
    """The number of parameters that the spec claims is not the number it has. The claim holds
    when the number, rounded to as many digits as were written, is the one claimed: 138357544
    parameters are ``138M parameters`` and ``138.4M parameters``.
    """

    code = "VGG118"
    claimed: str
    actual: int
    rounded: str

    def title(self) -> str:
        return f"the net has {self.actual} parameters, not {self.claimed}"

    def help(self) -> str | None:
        return f"write `{self.rounded} parameters`"


@dataclass(frozen=True, kw_only=True)
class NoLayers(Diagnostic):
    """The net has a name but no layers."""

    code = "VGG119"
    net: str

    def title(self) -> str:
        return f"net `{self.net}` has no layers"

    def help(self) -> str | None:
        return "write layers below its name, such as `conv3-64`"


@dataclass(frozen=True, kw_only=True)
class NetTwice(Diagnostic):
    """Two nets of a file have the same name, so ``file:NET`` would be unclear."""

    code = "VGG121"
    name: str

    def title(self) -> str:
        return f"there are two nets called `{self.name}`"

    def help(self) -> str | None:
        return "rename one"


@dataclass(frozen=True, kw_only=True)
class NoSuchNet(Diagnostic):
    """The file has no net of that name. ``vggspec check FILE`` lists the nets of a file."""

    code = "VGG122"
    name: str
    nets: tuple[str, ...]
    suggestion: str | None = None

    def title(self) -> str:
        return f"there is no net `{self.name}` in this file"

    def help(self) -> str | None:
        if self.suggestion:
            return f"did you mean `{self.suggestion}`?"
        return f"it has {', '.join(self.nets[:12])}" if self.nets else None


@dataclass(frozen=True, kw_only=True)
class WhichNet(Diagnostic):
    """The file holds several nets and this command wants one: name it after a colon.

    vggspec show specs/table1.vgg:D
    """

    code = "VGG123"
    nets: tuple[str, ...]
    example: str

    def title(self) -> str:
        return f"this file has {len(self.nets)} nets: {', '.join(self.nets[:12])}"

    def help(self) -> str | None:
        return f"name one, as in `{self.example}`"


@dataclass(frozen=True, kw_only=True)
class LikeCycle(Diagnostic):
    """The nets refer to each other in a circle, so none of them has layers of its own."""

    code = "VGG124"
    chain: tuple[str, ...]

    def title(self) -> str:
        return "these nets are like each other in a circle"

    def label(self) -> str:
        return " -> ".join(self.chain)

    def help(self) -> str | None:
        return "write the layers of one of them"


@dataclass(frozen=True, kw_only=True)
class NoSuchLayer(Diagnostic):
    """The other net has no layer of that name. ``vggspec show`` lists the names: conv1_1 is the
    first conv of the first block, pool1 the pooling layer after it, fc6 the first FC of a net of
    five blocks.
    """

    code = "VGG125"
    name: str
    net: str
    suggestion: str | None = None

    def title(self) -> str:
        return f"net `{self.net}` has no layer `{self.name}`"

    def help(self) -> str | None:
        return f"did you mean `{self.suggestion}`?" if self.suggestion else None


@dataclass(frozen=True, kw_only=True)
class LikeNotFirst(Diagnostic):
    """``like`` says how a net begins, so it stands before the net's own layers, once."""

    code = "VGG126"

    def title(self) -> str:
        return "`like` stands after layers"

    def help(self) -> str | None:
        return "move it directly below the `net` line"


@dataclass(frozen=True, kw_only=True)
class LikeUnreadable(Diagnostic):
    """The spec that this net is like cannot be read. Its path is taken from the folder of the
    file in which ``like`` stands.
    """

    code = "VGG127"
    path: str
    reason: str

    def title(self) -> str:
        return f"`{self.path}`: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class LikeBroken(Diagnostic):
    """The spec that this net is like has mistakes of its own; they are reported at their places
    when that file is checked.
    """

    code = "VGG128"
    path: str
    errors: int

    def title(self) -> str:
        return f"`{self.path}` has {count(self.errors, 'mistake')} of its own"

    def help(self) -> str | None:
        return f"run `vggspec check {self.path}`"
