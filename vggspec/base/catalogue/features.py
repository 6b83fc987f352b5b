"""Mistakes about features of images and the linear SVMs fitted on them (VGG71x)."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count

NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class BadFeaturesFile(Diagnostic):
    """``vggspec features`` writes a safetensors file with the descriptors of each split, and their
    classes.

        train.features   F32 (N, D), a row an image
        train.labels     I64 (N,); or U8 (N, K), a column for each class, where images have several
        train.names      U8, each name ended by a zero byte

    A file that another tool wrote will do as well; names may be missing.
    """

    code = "VGG710"
    reason: str

    def title(self) -> str:
        return f"this is not a usable file of features: {self.reason}"

    def help(self) -> str | None:
        return "make it by `vggspec features BUNDLE --data DIR`"


@dataclass(frozen=True, kw_only=True)
class NoLabelledSplit(Diagnostic):
    """An SVM is fitted on the split ``train`` of a file, else on its only split, and tested on
    ``val``, else on the only one. Descriptors of ``--images`` have no classes.
    """

    code = "VGG711"
    wanted: str
    splits: tuple[str, ...]

    def title(self) -> str:
        found = " and ".join(f"`{name}`" for name in self.splits[:NAMES_SHOWN]) or "nothing"
        return f"there is no split `{self.wanted}` with classes: the file has {found}"

    def help(self) -> str | None:
        return f"write one by `vggspec features BUNDLE --data DIR --split {self.wanted}`"


@dataclass(frozen=True, kw_only=True)
class NotFiniteFeatures(Diagnostic):
    """A descriptor holds what is no number. Nets are checked while descriptors are made, so this
    file comes from elsewhere or is damaged.
    """

    code = "VGG712"
    split: str
    image: str

    def title(self) -> str:
        return f"the descriptor of {self.image} in `{self.split}` holds what is no finite number"

    def help(self) -> str | None:
        return "make the file again"


@dataclass(frozen=True, kw_only=True)
class TooFewImages(Diagnostic):
    """C is chosen by cross-validation: each fold is left out once, so each class needs an image in
    each fold. Where an image may have several classes, each needs as many images without it.
    """

    code = "VGG713"
    folds: int
    classes: tuple[tuple[str, int], ...]
    """Those with too few images, or too few without, and how many."""

    def title(self) -> str:
        name, images = self.classes[0]
        more = len(self.classes) - 1
        others = f", and {count(more, 'class')} more" if more else ""
        return f"class `{name}` has {count(images, 'image')} for {self.folds} folds{others}"

    def help(self) -> str | None:
        least = min(images for _, images in self.classes)
        if least < 2:
            return "add images, or leave the class out"
        return f"give `--folds {least}`, or add images"


@dataclass(frozen=True, kw_only=True)
class OneClass(Diagnostic):
    """An SVM tells classes from each other, so it wants two at least."""

    code = "VGG714"
    classes: int

    def title(self) -> str:
        return f"the file has {count(self.classes, 'class')}, and there is nothing to tell apart"


@dataclass(frozen=True, kw_only=True)
class OtherFeatures(Diagnostic):
    """An SVM is tested on the same descriptors that it was fitted on: of the same nets and layers,
    at the same scales, put together in the same way; and of images of the same classes.
    """

    code = "VGG715"
    what: str
    fitted: str
    tested: str

    def title(self) -> str:
        return f"the {self.what} differ: {self.fitted} in the file to fit on, {self.tested} here"

    def help(self) -> str | None:
        return "make both files by `vggspec features` with the same bundles and options"


@dataclass(frozen=True, kw_only=True)
class ClassesDiffer(Diagnostic):
    """The images of one split have a class each, those of the other several, as annotations say; or
    the classes of one are names, those of the other numbers.
    """

    code = "VGG716"
    split: str
    reason: str

    def title(self) -> str:
        return f"`{self.split}` does not go with `train`: {self.reason}"

    def help(self) -> str | None:
        return "write each to a file of its own, by `--split`"
