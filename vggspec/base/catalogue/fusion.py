"""Mistakes in fusing nets, and in graphs that contain the test protocol (VGG67x)."""

from vggspec.base.class_names import pair
from vggspec.base.diagnostic import Diagnostic


class OtherLabels(Diagnostic):
    """Nets are fused by averaging their posteriors class by class (section 4.4 of the paper), so
    each number must mean the same class in all nets. Labels come with the weights; nets trained on
    folders have them in the order of the folders' names.
    """

    code = "VGG670"
    HELP = "fuse nets that were trained on the same classes"
    other: str
    index: int
    labels: tuple[str, str]
    """Of the other net, and of this one."""

    def title(self) -> str:
        theirs, ours = pair(*self.labels)
        return (
            f"class {self.index} is {ours} here and {theirs} in net `{self.other}`:"
            " they cannot be fused"
        )


class OtherClasses(Diagnostic):
    """Nets are fused by averaging their posteriors class by class, so all must have the same
    number of classes.
    """

    code = "VGG671"
    HELP = "fuse nets that were trained on the same classes"
    other: str
    classes: tuple[int, int]
    """Of the other net, and of this one."""

    def title(self) -> str:
        theirs, ours = self.classes
        return f"it has {ours} classes and net `{self.other}` has {theirs}: they cannot be fused"


class NoPosteriors(Diagnostic):
    """The test protocol averages class posteriors over mirror images, scales and nets, which only a
    net that ends in soft-max gives. Scores have no common unit, and boxes are merged, not averaged.
    """

    code = "VGG672"
    TITLE = "the test protocol averages posteriors, and this net gives {gives}"
    gives: str

    def help(self) -> str | None:
        if self.gives == "scores":
            return "end the spec with `soft-max`"
        return "compile it without `--protocol`"


class GrayAndColour(Diagnostic):
    """Fused nets receive the same pixels. One of these nets takes grayscale images, the other
    colour images.
    """

    code = "VGG673"
    TITLE = "this net and net `{other}` take different images: one grayscale, the other colour"
    HELP = "fuse nets that take the same images"
    other: str


class OtherMirrorImages(Diagnostic):
    """A graph with the test protocol averages with mirror images for all of its nets or for none.
    The `test:` section of one of these nets says `flip on`, that of the other `flip off`.
    """

    code = "VGG674"
    TITLE = "this net and net `{other}` differ in the use of mirror images"
    HELP = "give `--flip` or `--no-flip`"
    other: str


class CropsInProtocol(Diagnostic):
    """A graph with the test protocol applies its nets densely: to the whole rescaled image and its
    mirror image. The `test:` section of this net asks for crops.
    """

    code = "VGG675"
    TITLE = "the spec is tested on crops, and a graph with the protocol applies nets densely"
    HELP = "give `--dense` to apply it densely"


class FixedMirrorImages(Diagnostic):
    """The graph of this bundle contains the test protocol. Scales are an input of the graph,
    but whether it averages with mirror images is fixed.
    """

    code = "VGG676"
    flip: bool
    """Whether the graph averages with mirror images."""

    def title(self) -> str:
        does = "averages with mirror images" if self.flip else "uses no mirror images"
        return f"the bundle's graph {does}, which cannot be changed"

    def help(self) -> str | None:
        return f"compile it with `--protocol {'--no-flip' if self.flip else '--flip'}`"


class HoldsProtocol(Diagnostic):
    """The graph of this bundle takes an image and scales and returns averaged posteriors: it was
    compiled with ``--protocol``. This command applies nets itself, to images that it rescales,
    mirrors and crops.
    """

    code = "VGG677"
    TITLE = "the bundle's graph contains the test protocol, and this requires the net alone"
    HELP = "compile the spec without `--protocol`"
