"""Mistakes found when nets say where objects are (VGG70x)."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import either

Size = tuple[int, int]
CLASSES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class NoBoxes(Diagnostic):
    """Only a net that ends in boxes says where an object is (appendix A of the paper). One that
    classifies is named by ``--classifier``, beside a net of boxes.

        FC-4(linear) boxes(shared)
        FC-80(linear) boxes(per-class)       20 classes
    """

    code = "VGG700"
    gives: str

    def title(self) -> str:
        return f"the net gives {self.gives}, not boxes"

    def help(self) -> str | None:
        if self.gives in ("posteriors", "scores"):
            return "name a net of boxes first, and this one after `--classifier`"
        return "name the bundle of a net that ends in `boxes`"


@dataclass(frozen=True, kw_only=True)
class NoPosteriorsForBoxes(Diagnostic):
    """A classifier says which classes an image shows, and how likely they are in each window: the
    boxes of a class are rated by the sum of its posteriors. So it ends in a soft-max.
    """

    code = "VGG701"
    gives: str

    def title(self) -> str:
        return f"the net gives {self.gives}, so it is no classifier that could rate boxes"

    def help(self) -> str | None:
        if self.gives == "scores":
            return "end its spec with `soft-max` and compile it again"
        return "name the bundle of a net that ends in `soft-max` after `--classifier`"


@dataclass(frozen=True, kw_only=True)
class OtherClassesThanBoxes(Diagnostic):
    """The numbers of a class are found at its place among the classes, so the classifiers and the
    nets with boxes for each class have the same classes in the same order. Nets that are trained on
    folders have them in the order of the folders' names.
    """

    code = "VGG702"
    other: str
    how: str
    """How the classes differ, in words."""

    def title(self) -> str:
        return f"it does not have the classes of net `{self.other}`: {self.how}"

    def help(self) -> str | None:
        return "take nets that were trained on the same classes, or one with `boxes(shared)`"


@dataclass(frozen=True, kw_only=True)
class OtherWindows(Diagnostic):
    """A box is rated by what the classifier says of the window that the box was seen in. So all
    nets have windows of the same size, as far apart.
    """

    code = "VGG703"
    other: str
    windows: tuple[Size, Size]
    """Rows and columns: of the other net, and of this one."""

    strides: tuple[Size, Size]

    def title(self) -> str:
        theirs, ours = (
            f"windows of {rows} × {columns}, one every {down} × {across} pixels"
            for (rows, columns), (down, across) in zip(self.windows, self.strides, strict=True)
        )
        if theirs == ours:
            return f"the net and net `{self.other}` do not see an image by the same windows"
        return f"the net sees {ours}; net `{self.other}` sees {theirs}"

    def help(self) -> str | None:
        if self.windows[0] != self.windows[1]:
            return "take nets with the same input"
        if self.strides[0] != self.strides[1]:
            return "give `--stride`, and all of them get the same"
        return "their poolings round in different ways: compile them with the same `--pool`"


@dataclass(frozen=True, kw_only=True)
class ClassRequired(Diagnostic):
    """A net with ``boxes(per-class)`` says for each class where an object of it would be, and not
    which classes are there. Say which one you look for, or let a classifier tell.

        vggspec localise PCR photo.jpg                        wrong
        vggspec localise PCR photo.jpg --class cat            right
        vggspec localise PCR photo.jpg --classifier D         right
    """

    code = "VGG704"
    labels: tuple[str, ...]

    def title(self) -> str:
        return "the net has a box for each class, and no class was named"

    def help(self) -> str | None:
        more = len(self.labels) - CLASSES_SHOWN
        names = [f"`{label}`" for label in self.labels[:CLASSES_SHOWN]]
        listed = either([*names, f"one of {more} more"]) if more > 0 else either(names)
        return f"give `--classifier BUNDLE`, or `--class NAME`: {listed}"


@dataclass(frozen=True, kw_only=True)
class NoMapToRate(Diagnostic):
    """Boxes are rated by the class posteriors of single windows, and the bundle gives only their
    average over the image.
    """

    code = "VGG705"

    def title(self) -> str:
        return "the classifier gives no class score map to rate boxes by"

    def help(self) -> str | None:
        return "compile it with `--map`"


@dataclass(frozen=True, kw_only=True)
class ImageLeftOut(Diagnostic):
    """An image could not be read, or is too small for the net's window at this scale, or too large.
    The others are looked at.
    """

    code = "VGG706"
    why: str

    def title(self) -> str:
        return f"the image was left out: {self.why}"


@dataclass(frozen=True, kw_only=True)
class OneBoxForAll(Diagnostic):
    """Densely, a net gives a box for each window of its input's size. One that averages over space
    itself, by ``gap``, gives a single box however large the image is, and was trained to see its
    window alone.
    """

    code = "VGG707"

    def title(self) -> str:
        return "the net averages over space, so it gives no box for each window"

    def help(self) -> str | None:
        return "apply it by crops: give `--crops 5x5`"
