"""Mistakes found when a net with branches is compiled in another form (VGG243, VGG27x)."""

from vggspec.base.catalogue.shapes import chw
from vggspec.base.diagnostic import Diagnostic


class MixesPositions(Diagnostic):
    """A net is applied densely by making its FC layers convolutions, which needs no flattened map.
    An FC and an activation give the same numbers then; ``BN`` and ``soft-max`` of a flattened map
    work across all of its positions, and have no counterpart on a larger map.

        vggspec compile net.vgg --weights W           wrong
        vggspec compile net.vgg --weights W --crop    right
    """

    code = "VGG270"
    TITLE = "`{layer}` cannot be applied densely: it works across the positions of a flattened map"
    HELP = "compile with `--crop`, or write an FC or `gap` before it"
    layer: str
    size: tuple[int, int]

    def label(self) -> str:
        return f"the map is {self.size[0]} × {self.size[1]}"


class MeetsAtOneSize(Diagnostic):
    """Branches that are added or joined must have the same rows and columns on every image, or the
    net cannot be applied densely.

    They have them at one size only where one branch is averaged over the whole map by ``gap`` and
    the other is not, where their strides are different, or where an FC reads what was flattened
    from maps of different sizes.

        [conv8-16(pad 0) & maxpool conv4-16(pad 0)]    wrong: meet at 8 × 8 only
    """

    code = "VGG271"
    TITLE = "`{layer}` cannot be applied densely: {because}"
    LABEL = "its branches meet at one image size only"
    HELP = "compile with `--crop`"
    layer: str
    because: str


class OutputsOfDifferentStrides(Diagnostic):
    """``--stride`` is the distance between the positions of one output. In a net with several
    outputs it would be unclear whose.

        vggspec compile net.vgg --weights W --stride 8                    wrong
        vggspec compile net.vgg --weights W --stride 8 --layer conv4_3    right
    """

    code = "VGG272"
    HELP = "name one of them with `--layer`, or remove `--stride`"
    outputs: tuple[tuple[str, int], ...]
    """Each output with its stride."""

    def title(self) -> str:
        each = ", ".join(f"`{name}` every {stride}" for name, stride in self.outputs)
        return f"the outputs have different strides, in pixels: {each}"


class OtherRoundingAtJoin(Diagnostic):
    """``--pool ceil`` makes every pooling round up, ``--pool floor`` down. Branches that are added
    or joined meet as the spec says. With the other rounding one branch may get a row more than the
    other.

        [maxpool & conv2-64/2(pad 0)]    of 9 × 9, with ``ceil``: 5 × 5 and 4 × 4
    """

    code = "VGG273"
    HELP = "remove `--pool`: the net's poolings round as its spec says"
    to: str
    layer: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]

    def title(self) -> str:
        way = "up" if self.to == "ceil" else "down"
        first, second = map(chw, self.shapes)
        return f"with pooling rounded {way} `{self.layer}` would get {first} and {second}"


class SeveralBeforeLast(Diagnostic):
    """Features are the input of the last conv or FC layer (appendix B of the paper drops the last
    FC). Where the net ends in a sum or in joined branches, each branch has a last layer.

        [conv1-10 + conv3-10] gap soft-max
    """

    code = "VGG274"
    TITLE = "no layer is the last with weights: `{join}` has several branches"
    HELP = "name a layer with `--layer`"
    join: str


class NoMapPastAverage(Diagnostic):
    """A net that averages its last map by ``gap`` has a class score map where only linear layers
    stand between: FC layers without activation, ``BN``, dropout. The mean of their results at each
    position is their result for the mean. That does not hold of an activation, so that the scores
    of such a net have no places in the image.

        gap FC-10 soft-max                     has a map
        gap FC-64(linear) FC-10 soft-max       has a map
        gap FC-64 FC-10 soft-max               has none
    """

    code = "VGG243"
    HELP = "remove `--map`"
    layer: str
    is_read: bool
    """Whether it is linear, but its numbers are used elsewhere too."""

    def title(self) -> str:
        return f"there is no class score map: `{self.layer}` is between `gap` and the scores"

    def label(self) -> str:
        if self.is_read:
            return "an output or another layer needs its numbers"
        return "the mean of its results is not its result for the mean"
