"""Mistakes in the evaluation of nets on a data set (VGG69x)."""

from vggspec.base.class_names import pair, told_apart
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import all_of, count


class ScoresNotFused(Diagnostic):
    """A net without soft-max gives class scores, whose scale differs from net to net: a mean of two
    nets' scores would be dominated by the net with the larger ones.
    """

    code = "VGG690"
    TITLE = "a net without soft-max is not fused with others"
    HELP = "write `soft-max` at the end of its spec and compile it again, or evaluate it alone"


class ForeignClasses(Diagnostic):
    """Each class folder of the data must be a class of the net, matched by name; the data may lack
    some classes. A label such as `bee, honey bee` matches each of its names.

    If no name matches and there are as many folders as classes, the folders are taken in the order
    of their names, provided that all are WordNet ids (`n01440764`) or the net has no labels:
    ImageNet's classes are numbered this way.
    """

    code = "VGG691"
    net: str
    classes: int
    """Of the data."""

    outputs: int
    foreign: tuple[str, ...]
    """Folders that are not a class of the net; empty if it has no labels."""

    like: str | None
    """The label most like the first of them."""

    def title(self) -> str:
        if not self.foreign:
            of_net = f"`{self.net}` has {self.outputs}, without names"
            return f"the data has {count(self.classes, 'class')}, {of_net}"
        labels = () if self.like is None else (self.like,)
        names = ", ".join(told_apart(self.foreign[:4], labels, "the net"))
        more = f" and {len(self.foreign) - 4} more" if len(self.foreign) > 4 else ""
        return f"classes of the data that `{self.net}` does not have: {names}{more}"

    def help(self) -> str | None:
        if self.like is not None:
            folder, label = pair(self.foreign[0], self.like)
            return f"the label most like {folder} is {label}; rename the folders"
        return "use data with the net's classes; `vggspec inspect` prints them"


class SameClass(Diagnostic):
    """Class folders match the net's labels, or a name in a label: `bee` and `honey bee` are both
    the class `bee, honey bee`. Case matters only where labels differ in nothing else. Two folders
    of one class are most likely a mistake, and their images would be counted together.
    """

    code = "VGG697"
    HELP = "put their images into one folder, or use data with the net's classes"
    names: tuple[str, str]
    of_net: str

    def title(self) -> str:
        one, other = pair(*self.names)
        return f"{one} and {other} of the data are both the net's class `{self.of_net}`"


class ScaleBelowWindow(Diagnostic):
    """At scale Q an image's smallest side has Q pixels, and the net's window must fit into it: D
    requires 224 × 224.

        vggspec eval D --data DIR --scales 192,256               wrong
        vggspec eval D --data DIR --scales 224,256               right
        vggspec eval D --data DIR --scales 192,256 --enlarge     224 replaces 192
    """

    code = "VGG692"
    scale: int
    window: tuple[int, int]
    can_enlarge: bool
    """Whether the command has ``--enlarge``."""

    def title(self) -> str:
        rows, columns = self.window
        return f"at Q = {self.scale} no image fits the net's window of {rows} × {columns}"

    def help(self) -> str | None:
        least = max(self.window)
        more = ", or `--enlarge` to use the next scale that fits" if self.can_enlarge else ""
        return f"give `--scales {least}` or more{more}"


class LostProcess(Diagnostic):
    """With ``--procs`` and ``--gpus`` several processes share the images. One of them ended
    without an error: it was killed, most often by the system because memory ran out.
    """

    code = "VGG693"
    TITLE = "one of the processes {how}"
    HELP = "give fewer `--procs` or a smaller `--batch`; `--resume` continues from here"
    how: str


class JournalInUse(Diagnostic):
    """Another process runs the same task with the same nets, images and options. Both would write
    their results to one file.
    """

    code = "VGG694"
    TITLE = "another process is running the same task"
    HELP = "wait until it has finished, or end it"


class NoTableWeights(Diagnostic):
    """``vggspec reproduce`` measures the rows of a table for which there are weights. Files of
    weights are named after the net and the S that it was trained at:

        weights/D-256.safetensors
        weights/D-384.safetensors
        weights/D-256..512.safetensors

    ``D.safetensors`` can replace the last one: it is the net that was published.
    """

    code = "VGG695"
    TITLE = "there are no weights for {table}"
    table: str
    looked: tuple[str, ...]

    def help(self) -> str | None:
        return f"looked for {all_of(self.looked)}"


class NoImages(Diagnostic):
    """Nets are evaluated on a folder of images for each class, or on WebDataset shards, in the
    folder of a split or directly below ``--data``:

        data/val/cat/9.jpg     data/cat/9.jpg
        data/val/000000.tar    data/000000.tar

    ``--split`` names the split. Commands that take images without classes search folders, and
    folders in them, for images.
    """

    code = "VGG696"
    TITLE = "there are no images: {tried}"
    tried: str
    splits: tuple[str, ...] = ()
    """Splits that the data has instead."""

    split: str = "val"
    has_classes: bool = True
    """Whether the command takes images by their classes."""

    def help(self) -> str | None:
        if self.splits:
            names = ", ".join(f"`{name}`" for name in self.splits)
            return f"it has {names}: name one by `--split {self.splits[0]}`"
        if not self.has_classes:
            return "name images, or folders that contain images"
        return f"name a folder with `{self.split}/<class>/`, or with `<class>/`, after `--data`"
