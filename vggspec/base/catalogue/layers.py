"""Mistakes about layers, their arguments, names, claims and nets (VGG1xx)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class UnknownLayer(Diagnostic):
    """No layer is written this way.

    The layers are

        conv3-64  dwconv3  maxpool  avgpool  gap  FC-4096  soft-max  boxes
        BN  LRN  dropout  ReLU  ReLU6  SiLU

    and case does not matter. ReLU is implied after every conv and FC but the last.

        softmax      wrong
        soft-max     right
    """

    code = "VGG101"
    TITLE = "unknown layer `{word}`"
    HELP = (
        "{because}",
        "did you mean `{suggestion}`?",
        (
            "the layers are conv3-64, dwconv3, maxpool, avgpool, gap, FC-4096, LRN, BN, "
            "dropout(0.5), ReLU, ReLU6, SiLU, upconv4-64/2, up2, resize, crop, soft-max and "
            "boxes(per-class)"
        ),
    )
    word: str
    suggestion: str | None = None
    because: str | None = None


class MalformedLayer(Diagnostic):
    """The numbers of a layer are malformed.

        conv64      wrong           FC4096      wrong
        conv3-64    right           FC-4096     right

    A conv is ``conv<receptive field>-<channels>``, as in the paper's Table 1, and ``/2`` after it
    is a stride; a pooling layer is ``maxpool<window>/<stride>``, 2 and 2 unless written.
    """

    code = "VGG102"
    TITLE = "`{word}` is not how a layer is written"
    LABEL = "expected {form}"
    HELP = "write `{suggestion}`"
    word: str
    form: str
    suggestion: str


class OutOfRange(Diagnostic):
    """A number is too small or too large to be useful.

    The message shows the range.

        conv0-64        wrong: an empty receptive field
        conv3-64 x0     wrong: leave the line out instead
    """

    code = "VGG103"
    TITLE = "{what} {value} is out of range"
    LABEL = "expected {low} to {high}"
    what: str
    value: str
    low: str
    high: str


class UnknownOption(Diagnostic):
    """The layer has no such option.

        conv:      pad, groups, dilation, linear, no-bias
        maxpool:   pad, ceil
        avgpool:   pad, ceil
        LRN:       n, k, alpha, beta
        BN:        eps, momentum
        FC:        linear, no-bias
        dropout:   the rate alone, as in dropout(0.5)
        boxes:     per-class or shared
        input:     mean, std, scale

    The others take none. A stride is not an option: write it after a slash.

        conv3-64(stride 2)     wrong
        conv3-64/2             right
    """

    code = "VGG104"
    TITLE = "{owner} has no option `{word}`"
    LABEL = ("expected {known:either}", "it takes none")
    HELP = ("write `{instead}`", "did you mean `{suggestion}`?")
    owner: str
    word: str
    known: tuple[str, ...]
    suggestion: str | None = None
    """The whole option to write instead."""

    instead: str | None = None
    """The whole layer to write instead."""


class OptionTwice(Diagnostic):
    """An option is written twice for one layer.

    It would be unclear which one counts.

        conv3-64(pad 1, pad 2)     wrong
        conv3-64(pad 1)            right
    """

    code = "VGG105"
    TITLE = "the option `{word}` is written twice"
    LABEL = "the second one"
    HELP = "keep one of them"
    word: str


class OptionValue(Diagnostic):
    """An option or a claim has a value of the wrong kind.

    The message shows which kind is expected.

        conv3-64(pad same)     wrong
        conv3-64(pad 1)        right
    """

    code = "VGG106"
    TITLE = "`{word}` is not written this way"
    LABEL = "expected {expected}"
    HELP = "write `{suggestion}`"
    word: str
    expected: str
    suggestion: str | None = None


class NameTaken(Diagnostic):
    """Two layers of a net have the same name.

    Names are chosen by ``as``; the others are made from the place of the layer: conv1_1, pool1,
    fc6.

        conv3-64 as a  conv3-64 as a      wrong
        conv3-64 as a  conv3-64 as b      right
    """

    code = "VGG108"
    TITLE = "the name `{name}` is taken"
    HELP = "choose another name after `as`"
    name: str


class UnusableName(Diagnostic):
    """The name cannot be a layer's.

    A layer's name is also its name in the PyTorch module, in the weights file and in the ONNX
    graph. So it begins with a letter, contains only letters, digits and ``_``, at most 64 of them,
    and is neither a keyword of Python nor an attribute of ``torch.nn.Module``.

        FC-10 as my-name     wrong
        FC-10 as my_name     right
    """

    code = "VGG109"
    TITLE = "`{name}` cannot be a layer's name"
    LABEL = "{because}"
    HELP = "write `as {suggestion}`"
    name: str
    because: str
    suggestion: str


class RepeatedName(Diagnostic):
    """A repeated layer has a name.

    It stands for several layers, which cannot share one name.

        conv3-64 x2 as conv1                  wrong
        conv3-64 as conv1  conv3-64 as conv2  right
    """

    code = "VGG110"
    TITLE = "a repeated layer cannot have one name"
    LABEL = "this names several layers at once"
    HELP = "write `{word} as {name}_1 {word} as {name}_2`, or leave the name out"
    word: str
    name: str


class TooManyLayers(Diagnostic):
    """The net has more layers than any machine could train.

    Check for a repeat with too many digits.

        conv3-64 x1000000000     wrong
        conv3-64 x10             right
    """

    code = "VGG111"
    LABEL = "up to here"
    HELP = "write fewer layers, or a smaller repeat"
    found: int
    limit: int

    def title(self) -> str:
        number = str(self.found) if self.found < 10**12 else "millions of millions of"
        return f"the net has {number} layers, more than {self.limit}"


class NormAfterNorm(Diagnostic):
    """A ``BN`` follows another one.

    One normalises what the other has normalised already. A repeat applies to one layer: ``conv3-64
    BN x2`` is a conv and two ``BN``; a bracket repeats both.

        conv3-64 BN x2        wrong
        [conv3-64 BN] x2      right
    """

    code = "VGG112"
    TITLE = "BN directly after BN"
    HELP = "write it once; to repeat a conv with its BN, write `[conv3-64 BN] x2`"


class AfterTheEnd(Diagnostic):
    """There is a layer after the end of the net.

    ``soft-max`` and ``boxes`` output the result of a net, so no layer can follow them.

        FC-10 soft-max FC-10     wrong
        FC-10 FC-10 soft-max     right
    """

    code = "VGG113"
    TITLE = "a layer after `{last}`"
    LABEL = "`{last}` has ended the net"
    HELP = "end the net with `{last}`, written once"
    last: str


class UnknownColour(Diagnostic):
    """The kind of image is unknown.

    It must be ``RGB``, ``BGR`` (the order of Caffe's nets), or ``gray``.

        input 224x224 RGBA     wrong
        input 224x224 RGB      right
    """

    code = "VGG114"
    TITLE = "unknown kind of image `{word}`"
    LABEL = "expected RGB, BGR or gray"
    HELP = "write `{suggestion}`"
    word: str
    suggestion: str | None = None


class ChannelCount(Diagnostic):
    """``mean`` or ``std`` does not have a number for each channel.

    They have one for each, in the order of the input's channels, or one for all, in the units of
    the image, 0 to 255.

        input 224x224 RGB(mean 123.68 116.779)             wrong
        input 224x224 RGB(mean 123.68 116.779 103.939)     right
        input 224x224 BGR(mean 103.939 116.779 123.68)     right
    """

    code = "VGG115"
    word: str
    found: int
    channels: int

    def title(self) -> str:
        channels = count(self.channels, "channel")
        return f"`{self.word}` has {count(self.found, 'number')}, the image has {channels}"

    def label(self) -> str:
        if self.channels == 1:
            return "expected 1 number"
        return f"expected {self.channels} numbers, or one for all"


class ScaleAndStd(Diagnostic):
    """``scale`` and ``std`` are both written for one input.

    The net sees ``(x - mean) * scale`` or ``(x - mean) / std``, x from 0 to 255. With both it
    would be unclear whether the mean is in the units before or after the scale.

        input 224x224 RGB(std 58.4 57.1 57.4, scale 1/255)     wrong
        input 224x224 RGB(std 58.4 57.1 57.4)                  right: 0.229 * 255 …
    """

    code = "VGG116"
    TITLE = "`scale` and `std` are both written"
    LABEL = "the second one"
    HELP = "keep `std`, in units of 0 to 255, or `scale`"


class FalseWeightLayers(Diagnostic):
    """The spec claims a number of weight layers that the net does not have.

    Weight layers are the conv and FC layers (section 2.1 of the paper).

        FC-10 FC-10
        3 weight layers     wrong
        2 weight layers     right
    """

    code = "VGG117"
    TITLE = "net `{net}` has {actual:count weight layer}, not {claimed}"
    LABEL = "{breakdown}"
    net: str
    claimed: int
    actual: int
    breakdown: str

    def help(self) -> str | None:
        actual = count(self.actual, "weight layer")
        return f"write `{actual}`, or look for a layer too many or too few"


class FalseParameters(Diagnostic):
    """The spec claims a number of parameters that the net does not have.

    The claim is true if the number, rounded to as many digits as were written, is the one
    claimed: 138357544 parameters are ``138M parameters`` and ``138.4M parameters``.

        139M parameters     wrong for net D
        138M parameters     right
    """

    code = "VGG118"
    TITLE = "net `{net}` has {actual} parameters, not {claimed}"
    HELP = "write `{rounded} parameters`, or look for a wrong number of channels"
    net: str
    claimed: str
    actual: int
    rounded: str


class NoLayers(Diagnostic):
    """The net has a name but no layers.

        net D           wrong
        net E
        FC-10

    A net has layers of its own, or those of another net by ``like``.
    """

    code = "VGG119"
    TITLE = "net `{net}` has no layers"
    HELP = "write layers below its name, such as `conv3-64`"
    net: str


class NetTwice(Diagnostic):
    """Two nets of a file have the same name, so ``file:NET`` would be unclear.

    Case does not matter:

        | A | a |      wrong
        | A | B |      right
    """

    code = "VGG121"
    TITLE = "there are two nets called `{name}`"
    LABEL = "the second one"
    HELP = "rename one of them"
    name: str


class NoSuchNet(Diagnostic):
    """The file has no net of that name.

    ``vggspec check FILE`` lists the nets of a file.

        vggspec show specs/table1.vgg:F     wrong
        vggspec show specs/table1.vgg:E     right
    """

    code = "VGG122"
    TITLE = "there is no net `{name}` in this file"
    name: str
    nets: tuple[str, ...]
    suggestion: str | None = None

    def help(self) -> str | None:
        if self.suggestion:
            return f"did you mean `{self.suggestion}`?"
        return f"it has {', '.join(self.nets[:12])}" if self.nets else None


class WhichNet(Diagnostic):
    """The file contains several nets, and this command takes one.

    Name it after a colon:

        vggspec show specs/table1.vgg       wrong
        vggspec show specs/table1.vgg:D     right
    """

    code = "VGG123"
    HELP = "name one, as in `{example}`"
    nets: tuple[str, ...]
    example: str

    def title(self) -> str:
        return f"this file has {len(self.nets)} nets: {', '.join(self.nets[:12])}"


class LikeCycle(Diagnostic):
    """The nets refer to each other in a circle, so none of them has layers of its own.

    In a.vgg and in b.vgg:

        like "b.vgg"      wrong: b.vgg has like "a.vgg"
    """

    code = "VGG124"
    TITLE = "these nets are like each other in a circle"
    HELP = "write the layers of one of them"
    chain: tuple[str, ...]

    def label(self) -> str:
        return " -> ".join(self.chain)


class UnknownLikeLayer(Diagnostic):
    """The other net has no layer of that name.

    ``vggspec show`` lists the names: conv1_1 is the first conv of the first block, pool1 the
    pooling layer after it, fc6 the first FC of a net of five blocks.

        like "D.vgg" up to FC-4096     wrong: two layers are written so
        like "D.vgg" up to fc7         right
    """

    code = "VGG125"
    TITLE = "net `{net}` has no layer `{name}`"
    HELP = (
        "did you mean `{suggestion}`?",
        "run `vggspec show {path}` to see the names of its layers",
    )
    name: str
    net: str
    path: str
    suggestion: str | None = None


class LikeNotFirst(Diagnostic):
    """``like`` comes after layers.

    A net begins with it, so it comes before the net's own layers.

        FC-10                        wrong
        like "D.vgg" up to fc7

        like "D.vgg" up to fc7       right
        FC-10
    """

    code = "VGG126"
    TITLE = "`like` comes after layers"
    LABEL = "the net begins as the other one does"
    HELP = "move it above the net's own layers"


class LikeUnreadable(Diagnostic):
    """The spec named by ``like`` cannot be read.

    The path is relative to the folder of the file with the ``like``; one net of several is
    named after a colon.

        like "table1.vgg"       wrong: which of its six nets?
        like "table1.vgg:D"     right
    """

    code = "VGG127"
    TITLE = "`{path}`: {reason}"
    HELP = "{advice}"
    path: str
    reason: str
    advice: str | None = None


class LikeBroken(Diagnostic):
    """The spec named by ``like`` has mistakes.

    They are reported at their places when that file is checked.
    """

    code = "VGG128"
    TITLE = "`{path}` has {errors:count mistake} of its own"
    HELP = "run `vggspec check {path}`"
    path: str
    errors: int


class LikeTooDeep(Diagnostic):
    """A chain of ``like`` is too long.

    Refer to the net that has the layers.
    """

    code = "VGG129"
    TITLE = "`like` leads through more than {limit} nets"
    HELP = "refer to the net that has the layers"
    limit: int


class TooManyLayersTogether(Diagnostic):
    """The nets of the file have more layers together than are checked in one run.

    Each net is counted whole, with the layers that it takes over by ``like`` and with its repeats.

        net a
        conv3-64 x4000      wrong where five nets of the file are as large
        conv3-64 x40        right
    """

    code = "VGG130"
    TITLE = "up to this net there are {found} layers, more than {limit}"
    LABEL = "the nets of the file and those they are like, together"
    HELP = "write smaller repeats, or split the file"
    found: int
    limit: int


class LikeTooMuch(Diagnostic):
    """The specs that a file refers to with ``like`` contain more text than one run reads.

    All files that are reached by ``like`` are counted together, each once.

        like "a.vgg"      wrong where a.vgg is like b.vgg, and both are very long
    """

    code = "VGG131"
    TITLE = "with `{path}`, the specs reached by `like` have {found} {unit}, more than {limit}"
    HELP = "refer to fewer or smaller files"
    path: str
    found: int
    limit: int
    unit: str


class WhichFile(Diagnostic):
    """Two files of the folder have the name of a spec: one with the suffix, and one without.

    Add the suffix, or a folder for the file without it:

        vggspec show D          wrong, where there are D and D.vgg
        vggspec show D.vgg      right
        vggspec show ./D        right
    """

    code = "VGG132"
    TITLE = "`{name}` means two files here: `{name}` and `{name}.vgg`"
    HELP = "write `{name}.vgg` or `./{name}`"
    name: str


class NoPaddingToCount(Diagnostic):
    """``count-pad`` is written on an average pooling that has no padding.

    With it the padding counts as zeros.

        avgpool3/1(pad 1, count-pad)     right
        avgpool3/1(count-pad)            wrong
    """

    code = "VGG165"
    TITLE = "there is no padding to count"
    HELP = "write it, as in `pad 1`, or remove `count-pad`"
