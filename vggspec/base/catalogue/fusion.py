"""Mistakes where nets are fused, or a graph is to hold the whole test protocol (VGG67x)."""

from dataclasses import dataclass

from vggspec.base.class_names import pair
from vggspec.base.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class OtherLabels(Diagnostic):
    """Nets are fused by averaging their posteriors class by class (section 4.4 of the paper), so a
    class must be the same one in each, at the same place. Labels come with the weights; nets
    trained on folders have them in the order of the folders' names.
    """

    code = "VGG670"
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

    def help(self) -> str | None:
        return "fuse nets that were trained on the same classes"


@dataclass(frozen=True, kw_only=True)
class OtherClasses(Diagnostic):
    """Nets are fused by averaging their posteriors class by class, so they have the same number of
    classes.
    """

    code = "VGG671"
    other: str
    classes: tuple[int, int]
    """Of the other net, and of this one."""

    def title(self) -> str:
        theirs, ours = self.classes
        return f"it has {ours} classes and net `{self.other}` has {theirs}: they cannot be fused"

    def help(self) -> str | None:
        return "fuse nets that were trained on the same classes"


@dataclass(frozen=True, kw_only=True)
class NoPosteriors(Diagnostic):
    """The test protocol averages class posteriors over mirror images, scales and nets, which a net
    gives only if it ends in a soft-max. Scores have no common unit, and boxes are merged, not
    averaged.
    """

    code = "VGG672"
    gives: str

    def title(self) -> str:
        return f"the test protocol averages posteriors, and this net gives {self.gives}"

    def help(self) -> str | None:
        if self.gives == "scores":
            return "end the spec with `soft-max`"
        return "compile it without `--protocol`"


@dataclass(frozen=True, kw_only=True)
class GrayAndColour(Diagnostic):
    """Fused nets are given the same pixels. One of these takes gray pictures and the other takes
    coloured ones.
    """

    code = "VGG673"
    other: str

    def title(self) -> str:
        return (
            f"of this net and net `{self.other}` one takes gray pictures, the other coloured ones"
        )

    def help(self) -> str | None:
        return "fuse nets that take the same pictures"


@dataclass(frozen=True, kw_only=True)
class OtherMirrorImages(Diagnostic):
    """A graph that holds the test protocol averages with mirror images or it does not, for all its
    nets. The `test:` section of one of these says `flip on` and that of the other `flip off`.
    """

    code = "VGG674"
    other: str

    def title(self) -> str:
        return f"this net and net `{self.other}` do not agree on mirror images"

    def help(self) -> str | None:
        return "give `--flip` or `--no-flip`"


@dataclass(frozen=True, kw_only=True)
class CropsInProtocol(Diagnostic):
    """A graph that holds the test protocol applies its nets densely: to the whole of the rescaled
    picture and its mirror image. The `test:` section of this one asks for crops.
    """

    code = "VGG675"

    def title(self) -> str:
        return "the spec is tested by crops, and a graph with the protocol applies nets densely"

    def help(self) -> str | None:
        return "give `--dense` to apply it densely all the same"


@dataclass(frozen=True, kw_only=True)
class FixedMirrorImages(Diagnostic):
    """The graph of this bundle holds the test protocol. Scales are an input of it, and whether it
    averages with mirror images is not.
    """

    code = "VGG676"
    flip: bool
    """What the graph does."""

    def title(self) -> str:
        does = "averages with mirror images" if self.flip else "does without mirror images"
        return f"the bundle's graph {does}, which cannot be changed"

    def help(self) -> str | None:
        return f"compile it with `--protocol {'--no-flip' if self.flip else '--flip'}`"


@dataclass(frozen=True, kw_only=True)
class HoldsProtocol(Diagnostic):
    """The graph of this bundle takes a picture and scales and gives averaged posteriors: it was
    compiled with ``--protocol``. What was asked for applies nets itself, to images that it has
    rescaled, mirrored or cut.
    """

    code = "VGG677"

    def title(self) -> str:
        return "the bundle's graph holds the test protocol, and this wants the net alone"

    def help(self) -> str | None:
        return "compile the spec without `--protocol`"
