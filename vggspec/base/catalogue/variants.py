"""Mistakes found when another form of a net or of a bundle is compiled (VGG66x)."""

from vggspec.base.catalogue.shapes import chw
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import either

POSSIBLE_SHOWN = 8


class StrideOutOfReach(Diagnostic):
    """``--stride`` requests class scores at more positions of the image than the net gives: for
    instance every 16 pixels instead of every 32.

    The strides of the last layers are removed, and the layers after them are dilated. So a finer
    stride divides the net's own, and part of a layer's stride can only be removed where all later
    strides are removed completely. An average pooling cannot be dilated.
    """

    code = "VGG660"
    TITLE = "the net cannot give a position every {stride} pixels"
    NOTE = "the windows of the average pooling `{average}` cannot be dilated or padded"
    stride: int
    own: int
    possible: tuple[int, ...]
    average: str | None
    """The average pooling that is in the way, if one is."""

    def help(self) -> str | None:
        strides = [str(stride) for stride in self.possible if stride != self.own]
        if not strides:
            return f"remove `--stride`: the net's own, {self.own}, is the only one"
        some = strides[:POSSIBLE_SHOWN]
        return f"give {either(some)}; the net's own is {self.own}"


class StrideOfACrop(Diagnostic):
    """``--stride`` is the distance between the positions of the class score map. A net whose FC
    layers are kept takes images of one size and gives one position.
    """

    code = "VGG661"
    TITLE = "a crop has one position, so there is no stride to choose"
    HELP = "compile with `--dense`, or remove `--stride`"


class OtherRounding(Diagnostic):
    """``--pool ceil`` makes every pooling round up, as Caffe does, and ``--pool floor`` down. A net
    whose poolings divide its input evenly, as in all nets of the paper, is the same with both at
    its own input size. In other nets the first FC gets a map of another size than its weights are
    for.
    """

    code = "VGG662"
    HELP = "remove `--pool`: the net's poolings round as its spec says"
    to: str
    layer: str
    made_for: tuple[int, ...]
    given: tuple[int, ...]

    def title(self) -> str:
        way = "up" if self.to == "ceil" else "down"
        return (
            f"with pooling rounded {way} `{self.layer}` would get {chw(self.given)}, and its "
            f"weights are for {chw(self.made_for)}"
        )


class NoSuchOutput(Diagnostic):
    """``--layer`` names the layer whose activations are the output, as ``vggspec show`` lists it.
    ``conv4_3`` means its output after batch normalisation and ReLU, where they follow directly.
    """

    code = "VGG663"
    TITLE = "the net has no layer `{layer}`"
    HELP = ("did you mean `{like}`?", "`vggspec show SPEC` lists them")
    layer: str
    like: str | None


class NothingBeforeLast(Diagnostic):
    """Features are the input of the last conv or FC layer (appendix B of the paper drops the last
    FC). In a net with one such layer that is the image itself.
    """

    code = "VGG664"
    TITLE = "there is no layer before `{layer}`, the last with weights"
    HELP = "name a layer with `--layer`"
    layer: str


class NoWeightsToVary(Diagnostic):
    """A bundle can be compiled in another form, with another average, rounding or stride, if its
    fp32 weights are beside its model. A single file embeds them, and the weights beside an engine
    may have been deleted.
    """

    code = "VGG665"
    TITLE = "the bundle cannot be compiled in another form: it has no `{missing}`"
    missing: str
    commands: tuple[str, ...]

    def help(self) -> str | None:
        return "compile that form, with `--weights`:\n  " + "\n  ".join(self.commands)


class ProtocolNotVaried(Diagnostic):
    """A graph that contains the whole test protocol (``--protocol``) is one form of its nets:
    scales, mirror images and averages are part of it. Other forms require a bundle of one net.
    """

    code = "VGG666"
    TITLE = "a bundle that contains the test protocol cannot be compiled in another form"
    HELP = "compile its nets without `--protocol`"


class NoTaps(Diagnostic):
    """A perceptual distance compares feature maps, and an output of the net is a vector.

    Name layers before the first FC, with a line ``outputs`` in the spec, in Python with ``taps``.

        outputs conv1_2 conv2_2 conv3_3
    """

    code = "VGG667"
    TITLE = "an output of net `{net}` is no feature map"
    HELP = (
        "name conv or pooling layers in the spec, as in `outputs conv1_2 conv2_2`, or in Python\n"
        "with `taps`"
    )
    net: str


class OtherFactors(Diagnostic):
    """The learned factors of a perceptual distance are for other taps.

    The file has an array ``lin0.model.1.weight`` for the first tap, ``lin1.model.1.weight`` for the
    second, and so on, with one number for each channel of the tap.
    """

    code = "VGG668"
    expected: tuple[int, ...]
    found: tuple[int, ...]

    def title(self) -> str:
        if not self.found:
            return "it has no factors of a perceptual distance"
        return f"it has factors for taps of {_listed(self.found)} channels"

    def help(self) -> str | None:
        return f"take a file for taps of {_listed(self.expected)} channels, or leave `factors` out"


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
