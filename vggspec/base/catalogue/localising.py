"""Mistakes in localisation (VGG70x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import either

Size = tuple[int, int]
CLASSES_SHOWN = 6


class NoBoxes(Diagnostic):
    """Only a net that ends in boxes localises objects (appendix A of the paper). Pass a net that
    classifies with ``--classifier``, in addition to a net of boxes.

        FC-4(linear) boxes(shared)
        FC-80(linear) boxes(per-class)       20 classes
    """

    code = "VGG700"
    TITLE = "the net gives {gives}, not boxes"
    gives: str

    def help(self) -> str | None:
        if self.gives in ("posteriors", "scores"):
            return "name a net of boxes first, and this one after `--classifier`"
        return "name the bundle of a net that ends in `boxes`"


class NoPosteriorsForBoxes(Diagnostic):
    """A classifier gives the classes on an image, and their posteriors in each window: the boxes
    of a class are rated by the sum of its posteriors. So it must end in a soft-max.
    """

    code = "VGG701"
    TITLE = "the net gives {gives}, not the posteriors that rate boxes"
    gives: str

    def help(self) -> str | None:
        if self.gives == "scores":
            return "end its spec with `soft-max` and recompile it"
        return "name the bundle of a net that ends in `soft-max` after `--classifier`"


class OtherClassesThanBoxes(Diagnostic):
    """A class is found by its number, so the classifiers and the nets with boxes per class must
    have the same classes in the same order. Nets that were trained on folders have them in the
    order of the folders' names.
    """

    code = "VGG702"
    TITLE = "its classes differ from those of net `{other}`: {how}"
    HELP = "use nets that were trained on the same classes, or one with `boxes(shared)`"
    other: str
    how: str
    """How the classes differ."""


class OtherWindows(Diagnostic):
    """A box is rated by the classifier's posteriors in the window of the box. So the windows of
    all nets must have the same size and the same stride.
    """

    code = "VGG703"
    other: str
    windows: tuple[Size, Size]
    """Rows and columns of the other net's windows, and of this net's."""

    strides: tuple[Size, Size]

    def title(self) -> str:
        theirs, ours = (
            f"windows of {rows} × {columns}, one every {down} × {across} pixels"
            for (rows, columns), (down, across) in zip(self.windows, self.strides, strict=True)
        )
        if theirs == ours:
            return f"the net and net `{self.other}` apply different windows to an image"
        return f"the net sees {ours}; net `{self.other}` sees {theirs}"

    def help(self) -> str | None:
        if self.windows[0] != self.windows[1]:
            return "use nets with the same input"
        if self.strides[0] != self.strides[1]:
            return "give `--stride`: all of them get the same stride"
        return "their poolings round differently: compile them with the same `--pool`"


class ClassRequired(Diagnostic):
    """A net with ``boxes(per-class)`` predicts a box for each class, but not which classes are on
    the image. Name the class, or add a classifier.

        vggspec localise PCR photo.jpg                        wrong
        vggspec localise PCR photo.jpg --class cat            right
        vggspec localise PCR photo.jpg --classifier D         right
    """

    code = "VGG704"
    TITLE = "the net has a box for each class, and no class was named"
    labels: tuple[str, ...]

    def help(self) -> str | None:
        more = len(self.labels) - CLASSES_SHOWN
        names = [f"`{label}`" for label in self.labels[:CLASSES_SHOWN]]
        listed = either([*names, f"one of {more} more"]) if more > 0 else either(names)
        return f"give `--classifier BUNDLE`, or `--class NAME`: {listed}"


class NoMapToRate(Diagnostic):
    """Boxes are rated by the class posteriors of single windows, and the bundle outputs only their
    average over the image.
    """

    code = "VGG705"
    TITLE = "the classifier has no class score map to rate boxes with"
    HELP = "recompile it with `--map`"


class ImageLeftOut(Diagnostic):
    """An image cannot be read, or is too small for the net's window at this scale, or too large.
    The other images are localised.
    """

    code = "VGG706"
    TITLE = "the image was left out: {why}"
    why: str


class OneBoxForAll(Diagnostic):
    """Applied densely, a net predicts a box for each window of its input's size. A net that
    averages over space, with ``gap``, predicts a single box for an image of any size, and was
    trained on its window alone.
    """

    code = "VGG707"
    TITLE = "the net averages over space, so it has no box for each window"
    HELP = "apply it to crops: give `--crops 5x5`"
