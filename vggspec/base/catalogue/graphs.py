"""Mistakes about brackets, blocks, branches and outputs (VGG140 to VGG169)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class MisplacedBranch(Diagnostic):
    """``shortcut`` or ``identity`` is not a branch of its own.

    ``identity`` is a branch without layers; ``shortcut`` is one that is made to fit, in a sum.

        [conv3-64 conv3-64 + shortcut]           right
        [identity & conv3-32]                    right
        conv3-64 shortcut                        wrong
        [conv3-64 + shortcut conv1-64]           wrong
        [conv3-64 & shortcut]                    wrong: only a sum has shortcuts
    """

    code = "VGG140"
    TITLE = "{fact}"
    HELP = "{advice}"
    fact: str
    advice: str


class ShortcutFirst(Diagnostic):
    """A shortcut has no branch before it to fit.

    Its channels and its stride are those of the branch before it.

        [shortcut + conv3-64 conv3-64]     wrong
        [conv3-64 conv3-64 + shortcut]     right
    """

    code = "VGG141"
    TITLE = "a shortcut fits the branch before it, and there is none"
    HELP = "write the shortcut as the last branch"


class BranchesDisagree(Diagnostic):
    """Branches of a sum end in different activations.

    A sum takes over the activation of its branches: where a branch ends in a conv or FC, the
    activation is applied once, to the sum.

        [conv3-64 + conv1-64(linear)]              wrong
        [conv3-64(linear) + conv1-64(linear)]      right
    """

    code = "VGG142"
    LABEL = "{is_}"
    HELP = "write `(linear)` on both, and an activation after the bracket if one is meant"
    NOTE = "a sum takes over the activation of its branches"
    first: str | None
    second: str | None
    """The activations; None for a linear branch."""

    @property
    def is_(self) -> str:
        """What the marked branch is."""
        return "is linear" if self.second is None else f"ends in {self.second}"

    def title(self) -> str:
        first = "is linear" if self.first is None else f"ends in {self.first}"
        return f"one branch {first}, another {self.is_}"


class UnknownSource(Diagnostic):
    """``from``, ``crop`` or ``resize`` names a layer that does not exist, or one further down.

    A net is read from top to bottom: they name a layer, bracket or block use above them.

        maxpool
        from pool1        right
        from pool9        wrong
    """

    code = "VGG143"
    name: str
    suggestion: str | None = None
    is_below: bool = False

    def title(self) -> str:
        if self.is_below:
            return f"`{self.name}` is further down"
        return f"nothing above is called `{self.name}`"

    def help(self) -> str | None:
        if self.is_below:
            return "move this below it: a net is read from top to bottom"
        if self.suggestion is not None:
            return f"did you mean `{self.suggestion}`?"
        return "run `vggspec show` on the net without this line to see the names"


class SeveralEnds(Diagnostic):
    """Several paths of the net end, and no line says which results it has.

    The line ``outputs`` names them, in their order:

        from conv4_3  conv1-10 as aux
        outputs prob aux                 right: both ends are named
    """

    code = "VGG144"
    HELP = "write `outputs {listed}` to name the results, in their order"
    names: tuple[str, ...]

    @property
    def listed(self) -> str:
        """The ends as one would write them."""
        return " ".join(self.names)

    def title(self) -> str:
        return f"the net has {len(self.names)} ends: {', '.join(self.names)}"


class UnreadEnd(Diagnostic):
    """Nothing reads a layer, and ``outputs`` does not name it.

    Its work would be lost.

        FC-10 as a  from pool5 FC-10 as b
        outputs a                            wrong: b is computed in vain
        outputs a b                          right
    """

    code = "VGG145"
    TITLE = "nothing reads `{name}`"
    HELP = "add `{name}` to the outputs, or remove the layer"
    name: str


class UnknownOutput(Diagnostic):
    """``outputs`` names a layer that the net does not have, or one twice.

    Each result has the name of its layer, bracket or block use.

        outputs conv1_2 conv2_2      right
        outputs conv1_2 conv1_2      wrong
    """

    code = "VGG146"
    TITLE = "{fact}"
    HELP = ("{advice}", "did you mean `{suggestion}`?", "run `vggspec show` to see the names")
    fact: str
    advice: str | None = None
    suggestion: str | None = None


class OnceInVain(Diagnostic):
    """``(once)`` is written where nothing is repeated, or where there is no stride.

    ``/2(once)`` gives the stride to the first of the repeats and 1 to the others.

        [conv3-64/2(once) conv3-64 + shortcut] x2     right
        conv3-64/2(once)                              wrong: write conv3-64/2
    """

    code = "VGG147"
    TITLE = "{fact}"
    HELP = "{advice}"
    fact: str
    advice: str


class BadExpression(Diagnostic):
    """The text in braces is no number.

    In braces stand whole numbers, ``+ - * /``, round brackets, parameters of the block, and ``in``,
    the channels that enter the block. A division must leave no rest.

        conv1-{4*c}      right
        conv1-{in/2}     right where an even number of channels enters
        conv1-{c^2}      wrong
    """

    code = "VGG148"
    TITLE = "`{{{text}}}` {because}"
    HELP = ("did you mean `{{{suggestion}}}`?", "{advice}")
    text: str
    because: str
    suggestion: str | None = None
    advice: str | None = None


class BlockArguments(Diagnostic):
    """A block is used with other arguments than it has parameters.

    Arguments are given by place or by name, as options are.

        block fire(s, e):
          conv1-{s}
          [conv1-{e} & conv3-{e}]

        fire(16, 64)         right
        fire(s 16, e 64)     right
        fire(16)             wrong: e is missing
    """

    code = "VGG149"
    TITLE = "{fact}"
    HELP = "the block is `{form}`"
    fact: str
    form: str


class BlockCircle(Diagnostic):
    """A block uses itself, directly or through others.

    It could never be written out.

        block a:
          conv3-64 a      wrong
    """

    code = "VGG150"
    HELP = "write the layers out, or repeat the block with `x2`"
    chain: tuple[str, ...]

    def title(self) -> str:
        return f"block `{self.chain[0]}` uses itself: {' → '.join(self.chain)}"


class NormBesideMeaning(Diagnostic):
    """``BN`` follows a conv that already has one by the net's ``conv is`` line.

    With such a line a written conv stands for all that it says.

        conv is conv(no-bias) BN ReLU
        conv3-64 BN                       wrong
        conv3-64                          right
    """

    code = "VGG151"
    TITLE = "the conv before has a BN by the line `conv is …`"
    HELP = "remove this BN, or write `(plain)` on the conv"


class FalseSize(Diagnostic):
    """A row of a table claims an output size that its layers do not have.

    Sizes are rows, columns and, if written, channels.

        | layer     | output   |
        |-----------|----------|
        | conv7-64/2 | 112x112 |      right for an input of 224 × 224
    """

    code = "VGG152"
    TITLE = "the output here is {actual}, not {claimed}"
    HELP = "write `{written}`, or look for a wrong stride above"
    actual: str
    claimed: str
    written: str


class FalseDepth(Diagnostic):
    """The spec claims a depth that the net does not have.

    The depth is the number of weight layers on the longest path from the image to an output.

        22 weight layers deep     right for GoogLeNet, which has 58 weight layers
    """

    code = "VGG153"
    TITLE = "net `{net}` is {actual:count weight layer} deep, not {claimed}"
    net: str
    claimed: int
    actual: int

    def help(self) -> str | None:
        deep = count(self.actual, "weight layer")
        return f"write `{deep} deep`, or look for a layer too many or too few"


class FalseMacs(Diagnostic):
    """The spec claims a number of multiply-accumulates that the net does not need.

    They are those of conv and FC layers for one image, rounded to as many digits as were written.

        3.8G MACs     wrong for ResNet-50 with the stride in its 3 × 3 convs
        4.1G MACs     right
    """

    code = "VGG154"
    TITLE = "net `{net}` takes {actual} MACs, not {claimed}"
    HELP = "write `{rounded} MACs`, or look for a wrong stride or number of channels"
    net: str
    claimed: str
    actual: int
    rounded: str


class LikeInsideBracket(Diagnostic):
    """``like … up to`` names a layer inside a bracket.

    A net is like another one up to a layer, a bracket or a repeat of it.

        like "resnet18.vgg" up to conv3_2_conv1     wrong
        like "resnet18.vgg" up to conv3_2           right
    """

    code = "VGG155"
    TITLE = "`{name}` lies inside the bracket `{bracket}`"
    HELP = "write `up to {bracket}`"
    name: str
    bracket: str


class OtherMeaning(Diagnostic):
    """The net is like another one, and both say what a conv is.

    The line of the other net holds for the layers of both.

        like "resnet.vgg:ResNet-18" up to conv4
        conv is conv BN ReLU6                       wrong
    """

    code = "VGG156"
    TITLE = "net `{net}`, which this net is like, says what a conv is"
    HELP = "remove this line; what it leaves out can be written on the layers, as in `(plain)`"
    net: str


class LikeRepeatedEnd(Diagnostic):
    """The other net ends within a repeated bracket, so its end cannot be continued.

    The last weight layer of a net has no activation, and a repeat has the same layers each time.

        like "other.vgg"     wrong where other.vgg ends in [conv3-64] x2
    """

    code = "VGG157"
    TITLE = "net `{net}` ends within a repeated bracket"
    HELP = "write that bracket's layers in this net, after `like … up to` the layer before it"
    net: str


class OtherBlock(Diagnostic):
    """The net is like one of another file, and both files have a block of this name.

    Which of the two is meant would depend on the line.

        block fire(s, e):      wrong where the other file has another `fire`
    """

    code = "VGG158"
    TITLE = "the file of net `{net}` has another block `{block}`"
    HELP = "give this block another name"
    net: str
    block: str


class EmptyPath(Diagnostic):
    """No layer follows a ``from``, so that it has no effect.

    The layers of a path follow ``from NAME``, on its line or below it. To make a layer a result of
    the net, name it in ``outputs``.

        from pool4
        conv1-10 as aux        right
        from pool4             wrong at the end of a net, or before another `from`
    """

    code = "VGG163"
    TITLE = "no layer follows `from {name}`"
    HELP = "write the layers of the path after it, or remove it"
    NOTE = "the line `outputs` names the results"
    name: str


class UnreadParameter(Diagnostic):
    """A block has a parameter that none of its lines reads.

    The arguments given for it would have no effect. A line reads it in braces:

        block part(c, s):
          conv3-{c}                wrong: nothing reads s
          conv3-{c}/{s}            right
    """

    code = "VGG164"
    TITLE = "nothing in the block `{block}` reads `{name}`"
    HELP = "write `{{{name}}}` in one of its lines, or remove the parameter"
    block: str
    name: str


class ImageAsOutput(Diagnostic):
    """A result of the net is the image itself: no layer stands before it.

    Who runs the net has the image already.

        [identity] as a  conv3-64 as b
        outputs a b                          wrong: `a` is the image
        outputs b                            right
    """

    code = "VGG162"
    TITLE = "the output {name} is the image itself"
    named: str | None
    """How the line ``outputs`` calls it; None for a net without that line."""

    @property
    def name(self) -> str:
        """It in the words of the spec."""
        return "of the net" if self.named is None else f"`{self.named}`"

    def help(self) -> str | None:
        return "write a layer" if self.named is None else "name layers only"
