"""Mistakes in features of images and linear SVMs (VGG71x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import all_of, count

NAMES_SHOWN = 5


class BadFeaturesFile(Diagnostic):
    """``vggspec features`` writes a safetensors file with the descriptors of each split, and their
    classes.

        train.features   F32 (N, D), a row per image
        train.labels     I64 (N,); or U8 (N, K), if images have several of K classes
        train.names      U8, each name ended by a zero byte

    Another tool may write the file; names are optional.
    """

    code = "VGG710"
    TITLE = "the file of features is unusable: {reason}"
    HELP = "write it with `vggspec features BUNDLE --data DIR`"
    reason: str


class NoLabelledSplit(Diagnostic):
    """An SVM is fitted on the split ``train`` of a file, or on its only split, and tested on
    ``val``, or on the only split. Descriptors of ``--images`` have no classes.
    """

    code = "VGG711"
    HELP = "write one with `vggspec features BUNDLE --data DIR --split {requested}`"
    requested: str
    splits: tuple[str, ...]

    def title(self) -> str:
        found = all_of([f"`{name}`" for name in self.splits[:NAMES_SHOWN]]) or "nothing"
        return f"the file has no split `{self.requested}` with classes: it contains {found}"


class NotFiniteFeatures(Diagnostic):
    """A descriptor contains NaN or infinity. `vggspec features` never writes such numbers, so
    another tool wrote this file, or it is damaged.
    """

    code = "VGG712"
    TITLE = "the descriptor of {image} in `{split}` contains NaN or infinity"
    HELP = "write the file again"
    split: str
    image: str


class TooFewImages(Diagnostic):
    """C is chosen by cross-validation: each fold is held out once, so each class requires an image
    in each fold. If images may have several classes, each class also requires as many images
    without it.
    """

    code = "VGG713"
    folds: int
    classes: tuple[tuple[str, int], ...]
    """The classes with too few images, or too few images without them, and how many."""

    is_without: bool = False
    """Whether the first of them has too few images without it."""

    def title(self) -> str:
        name, images = self.classes[0]
        more = len(self.classes) - 1
        others = f", and {count(more, 'class')} more" if more else ""
        number = count(images, "image")
        if self.is_without:
            are = "is" if images == 1 else "are"
            return f"{number} {are} without class `{name}` for {self.folds} folds{others}"
        return f"class `{name}` has {number} for {self.folds} folds{others}"

    def help(self) -> str | None:
        least = min(images for _, images in self.classes)
        if least < 2:
            kind = " without it" if self.is_without else ""
            return f"add images{kind}, or remove the class"
        return f"give `--folds {least}`, or add images"


class OneClass(Diagnostic):
    """An SVM separates classes, so it requires at least two."""

    code = "VGG714"
    TITLE = "the file has {classes:count class}, and an SVM requires two"
    classes: int


class OtherFeatures(Diagnostic):
    """An SVM must be tested on the descriptors that it was fitted on: of the same nets and layers,
    at the same scales, combined in the same way, of images of the same classes.
    """

    code = "VGG715"
    TITLE = "the {what} differ: {fitted} in the file to fit on, {tested} here"
    HELP = "write both files with `vggspec features`, with the same bundles and options"
    what: str
    fitted: str
    tested: str


class ClassesDiffer(Diagnostic):
    """The images of one split have one class each, those of the other several; or the classes of
    one split are names, those of the other numbers.
    """

    code = "VGG716"
    TITLE = "`{split}` does not match `train`: {reason}"
    HELP = "write each split to its own file, with `--split`"
    split: str
    reason: str
