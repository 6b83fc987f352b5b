"""Mistakes about images and training data (VGG42x to VGG45x)."""

import shlex

from vggspec.base.class_names import escaped, told_apart
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count

SHOWN = 6
"""The number of names that a message shows, of many."""


class NoData(Diagnostic):
    """Training needs a folder that contains ``train`` and ``val``, and in each of them a folder of
    images for each class:

        data/train/cat/1.jpg   data/train/dog/1.jpg
        data/val/cat/9.jpg     data/val/dog/9.jpg

    or WebDataset shards, and next to them, if the classes have names, `classes.txt`:

        data/train/000000.tar  data/val/000000.tar

    The folder is the one that ``--data`` names, else ``data "DIR"`` in the spec, else
    ``$VGGSPEC_DATA``, else ``data``.
    """

    code = "VGG421"
    TITLE = "there is no training data: {tried}"
    HELP = (
        "name a folder with `train/<class>/` and `val/<class>/` after `--data`,"
        " or split one folder of classes by `validate on 10%`"
    )
    tried: str


class ClassMismatch(Diagnostic):
    """The net's last layer has one output for each class, so the data must have as many classes.

    Each folder in ``train`` is a class, with all folders below it, even a leftover folder without
    images. Hidden folders and those of systems, such as ``__MACOSX``, are not classes.
    """

    code = "VGG422"
    classes: int
    outputs: int
    layer: str
    names: tuple[str, ...] = ()
    """The names of the classes, if they have names."""

    empty: tuple[str, ...] = ()
    """Folders without any image."""

    only_in_train: tuple[str, ...] = ()
    """Folders that ``val`` lacks, if it has all others."""

    dangling: tuple[str, ...] = ()
    """Broken links in ``train``, which are not classes."""

    groups: tuple[str, ...] = ()
    """Classes whose images are all in folders of their folder."""

    def title(self) -> str:
        classes = count(self.classes, "class")
        surplus = self.classes > self.outputs
        more = f"; no images are in {_listed(self.empty)}" if surplus and self.empty else ""
        return f"the data has {classes}, `{self.layer}` has {self.outputs} outputs{more}"

    def help(self) -> str | None:
        surplus = self.classes - self.outputs
        if self.dangling and len(self.dangling) == -surplus:
            return f"{_listed(self.dangling)} in `train` are broken links: fix them"
        for names in (self.empty, self.only_in_train):
            if names and len(names) == surplus:
                what = "has no images" if names is self.empty else "is not in `val`"
                return (
                    f"remove {_listed(names)} from `train`, which {what};"
                    f" the other {self.outputs} fit the net"
                )
        listed = f"\nthe classes are {_listed(self.names)}" if self.names else ""
        if self.groups and surplus < 0:
            listed += f"\nif the folders in {_listed(self.groups)} are classes, move them up"
        return f"write `FC-{self.classes}` as the last layer, or use other data{listed}"


class EmptyClass(Diagnostic):
    """A class folder contains no image, or no annotation names the class, so the net cannot learn
    it.
    """

    code = "VGG423"
    TITLE = "class `{name}` has no images"
    name: str
    beside: str = ""
    """What its folder contains instead, in words."""

    def help(self) -> str | None:
        advice = "add images, or remove the class and lower the last FC by one"
        return f"{advice}\nits folder contains {self.beside}" if self.beside else advice


class UnlikeClasses(Diagnostic):
    """The validation images have a class that the training images do not have.

    A letter may be written in several ways, such as ``é`` in one character or as ``e`` and an
    accent: these are equal. A blank before or after a name, or a letter of another alphabet, cannot
    be seen and makes a different name; such names are shown with escapes.
    """

    code = "VGG424"
    missing: tuple[str, ...]
    known: tuple[str, ...] = ()
    """The classes of ``train``."""

    empty: tuple[str, ...] = ()
    """Those of ``missing`` whose folders contain no images."""

    def title(self) -> str:
        return f"val has classes that train does not have: {', '.join(self._told())}"

    def help(self) -> str | None:
        if self.empty == self.missing:
            return "remove these folders from `val`, which contain no images"
        if any(text[0] != "`" for text in self._told()):
            return "rename them: these names look alike and differ"
        return "use the same class folders in `train` and `val`"

    def _told(self) -> list[str]:
        more = len(self.missing) - SHOWN
        told = told_apart(self.missing[:SHOWN], self.known, "train")
        return [*told, f"and {more} more"] if more > 0 else told


class NotKeptApart(Diagnostic):
    """``validate on 10%`` keeps a share of each class apart for validation, from one folder of
    class folders, ``DIR/<class>/``, or from ``DIR/train`` where there is no ``DIR/val``. At least
    one image of each class is kept apart, and one has to be left to train on.
    """

    code = "VGG428"
    TITLE = "`validate on` cannot split this data: {why}"
    HELP = "{way}"
    why: str
    way: str


class Diverged(Diagnostic):
    """The loss is no longer a finite number: the steps were too large for this net and these
    inputs. Narrow nets on inputs of 0 to 255 diverge at a rate of 1e-2.
    """

    code = "VGG425"
    TITLE = "the loss is not finite at step {step}, at rate {rate:g}"
    NOTE = "the last good weights are in {saved}"
    step: int
    rate: float
    saved: str | None
    advice: tuple[str, ...]
    """Changes of the recipe that may help."""

    def help(self) -> str | None:
        return "\n".join(("try", *self.advice))


class TooManyBadImages(Diagnostic):
    """A few unreadable images of a large set are left out. This many indicate another problem, so
    the command stops.
    """

    code = "VGG426"
    TITLE = "{bad} of {total} images cannot be read"
    bad: int
    total: int
    first: tuple[str, ...]

    def help(self) -> str | None:
        return "repair or remove them, beginning with\n" + "\n".join(self.first)


class NotTrainable(Diagnostic):
    """``vggspec train`` minimises the classification loss of section 3.1, or the distance of boxes
    of appendix A.1. So the net ends in class scores, an FC or a conv, and ``soft-max``, or in an FC
    and ``boxes``; or it labels positions, and ends in a conv and ``soft-max(map)``.
    """

    code = "VGG427"
    TITLE = "this net cannot be trained: {because}"
    because: str


class ClassTwice(Diagnostic):
    """The names of two folders of a split differ only in blanks around them, or in how a letter is
    written: ``é`` may be one character, or an ``e`` and an accent, as macOS writes it. The net
    would have two outputs for one class.
    """

    code = "VGG433"
    HELP = "put their images into one folder"
    names: tuple[str, str]

    def title(self) -> str:
        one, other = map(escaped, self.names)
        return f"two folders have the name of one class: {one} and {other}"


class FoldersAndShards(Diagnostic):
    """The images of a split are in class folders or in shards, `*.tar`. This folder contains both,
    and one of them would be ignored: perhaps the archives from which the folders were unpacked.
    """

    code = "VGG434"
    HELP = "move one of the two elsewhere"
    folders: tuple[str, ...]
    shards: tuple[str, ...]

    def title(self) -> str:
        folders, shards = _listed(self.folders, 2), _listed(self.shards, 2)
        return f"it contains folders and shards: {folders}; {shards}"


class BadClassNames(Diagnostic):
    """``classes.txt`` next to the shards has a name for each class, a line each, from class 0 on.
    All names must be different, or two classes could not be distinguished in any report.

        crane       wrong: as in lists of ImageNet, where   crane
        ...         one is a bird and one a machine         ...
        crane                                               crane (machine)
    """

    code = "VGG435"
    TITLE = "the names of the classes cannot be used: {why}"
    HELP = "{advice}"
    why: str
    advice: str


def _listed(names: tuple[str, ...], most: int = SHOWN) -> str:
    first = ", ".join(f"`{name}`" for name in names[:most])
    return f"{first} and {len(names) - most} more" if len(names) > most else first


class BadShard(Diagnostic):
    """A shard of a WebDataset is an uncompressed tar file, so that single images can be read from
    it. This file is something else, or incomplete.
    """

    code = "VGG431"
    TITLE = "this shard cannot be read: {why}"
    HELP = "write it again, for instance with `webdataset.ShardWriter`"
    why: str


class BadSample(Diagnostic):
    """Each sample of a shard has an image, a class, and a unique name.

        0007.jpg  0007.cls

    The files of a sample are adjacent and share their name up to the first dot. The image is a
    `jpg`, `jpeg`, `png` or `webp`, the class a number from 0; other files are ignored.

        img.v2.jpg  img.v2.cls     wrong: `v2.jpg` and `v2.cls` of a sample `img`
        img_v2.jpg  img_v2.cls     right
    """

    code = "VGG432"
    TITLE = "sample `{name}` cannot be used: {why}"
    name: str
    why: str
    dotted: str = ""
    """A file of the sample whose name has another dot before its ending."""

    def help(self) -> str | None:
        if not self.dotted:
            return "write the shard again, or remove it"
        folder, _, name = self.dotted.rpartition("/")
        stem, _, ending = name.rpartition(".")
        better = f"{folder}{'/' if folder else ''}{stem.replace('.', '_')}.{ending}"
        return (
            f"a sample's name ends at the first dot: `{self.dotted}` is the file"
            f" `{name.partition('.')[2]}` of it\n"
            f"write the shard again without other dots, as `{better}`"
        )


class BadPacked(Diagnostic):
    """Data sets that come in files of their own are read as they are: CIFAR's binary version, the
    idx files of MNIST and others, and Parquet with a column of images and one of classes. This file
    is damaged, something else, or too large, or others of its set are missing.
    """

    code = "VGG429"
    TITLE = "this file of images cannot be used: {why}"
    HELP = "{advice}"
    why: str
    advice: str = "download or write it again"


class PickledData(Diagnostic):
    """The version of CIFAR for Python consists of pickles. To read a pickle is to run what its
    author wrote, so vggspec reads those of nobody. The binary version has the same images:

        https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
        https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz
    """

    code = "VGG430"
    TITLE = "these files are pickles, which vggspec does not read"
    HELP = (
        "use the binary version, `cifar-10-binary.tar.gz` or `cifar-100-binary.tar.gz`,\n"
        "from https://www.cs.toronto.edu/~kriz/cifar.html"
    )


class NotAnImage(Diagnostic):
    """The file cannot be read as an image: it is something else, or it is damaged. JPEG, PNG,
    WebP, BMP, GIF and TIFF are supported.
    """

    code = "VGG451"
    TITLE = "this is not a readable image: {reason}"
    reason: str


class ImageTooLarge(Diagnostic):
    """Decoding the image would take more than half a gigabyte of memory. Files made for that
    purpose are called decompression bombs.

    The number of pixels that an image may have depends on its format: 76 million as PNG or JPEG, 53
    as a progressive JPEG, 31 as WebP.
    """

    code = "VGG452"
    HELP = "rescale it first"
    size: tuple[int, int] | None = None
    """Columns and rows; None if a part of the image is larger than the image."""

    limit: int | None = None

    def title(self) -> str:
        if self.size is None:
            return "the image has a part with too many pixels to be decoded"
        width, height = self.size
        return f"the image has {width} × {height} pixels, more than {self.limit}"


class RescaledTooLarge(Diagnostic):
    """An image is rescaled so that its smallest side is Q; a long and thin image becomes very
    long, and the net takes memory in proportion.
    """

    code = "VGG453"
    TITLE = "at Q = {scale} the image has {width} × {height} pixels, more than {limit}"
    HELP = "crop it, or give a smaller `--scales`"
    width: int
    height: int
    scale: int
    limit: int


class SmallerThanWindow(Diagnostic):
    """The net takes windows of a fixed size; a smaller image has none. D takes 224 × 224.

        vggspec predict D photo.jpg --scales 128      wrong
        vggspec predict D photo.jpg --scales 256      right

    The size is in the bundle's manifest, under ``input``.
    """

    code = "VGG454"
    size: tuple[int, int]
    window: tuple[int, int]

    def title(self) -> str:
        return (
            f"an image of {self.size[0]} × {self.size[1]} is smaller than the net's window of"
            f" {self.window[0]} × {self.window[1]}"
        )

    def help(self) -> str | None:
        return f"give `--scales {max(self.window)}` or more"


class GraphRescales(Diagnostic):
    """A graph that contains the test protocol rescales pictures by itself, and rounds the longer
    side to the nearest pixel. torchvision rounds it down, which ``resize torchvision`` and
    ``--resize torchvision`` select; other bundles do either.

        vggspec compile D.vgg --protocol -o D    rescales by itself
        vggspec compile D.vgg -o D               as `test:` or `--resize` says
    """

    code = "VGG455"
    TITLE = "a graph that rescales pictures does not round as torchvision does"
    HELP = "compile it without `--protocol`, or leave out `resize torchvision`"


class LostWorker(Diagnostic):
    """With ``--workers`` other processes decode images. One of them ended without an error, or no
    longer answers: a user or the system killed it, most often because memory ran out, or shared
    memory (``/dev/shm``, which is small in containers). The last checkpoint is intact.
    """

    code = "VGG436"
    TITLE = "a process that decodes images {how}"
    how: str
    run: str | None
    """The folder of the run; None where nothing can be resumed."""

    def help(self) -> str | None:
        advice = "use fewer `--workers`, or 0, if memory ran out"
        if self.run is None:
            return advice
        return (
            f"{advice}; to resume from the last checkpoint:\n"
            f"vggspec train {shlex.quote(self.run)} --resume"
        )
