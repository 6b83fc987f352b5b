"""Mistakes about images and training data (VGG42x to VGG47x)."""

from dataclasses import dataclass

from vggspec.catalogue import count
from vggspec.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class NoData(Diagnostic):
    """Training wants a folder with ``train`` and ``val`` in it, and in each of them a folder of
    images for each class:

        data/train/cat/1.jpg   data/train/dog/1.jpg
        data/val/cat/9.jpg     data/val/dog/9.jpg

    or WebDataset shards, and beside them, if the classes have names, `classes.txt`:

        data/train/000000.tar  data/val/000000.tar

    It is named by ``--data``, else by ``data "DIR"`` in the spec, else by ``$VGGSPEC_DATA``, else
    it is ``data``.
    """

    code = "VGG421"
    tried: str

    def title(self) -> str:
        return f"there is no training data: {self.tried}"

    def help(self) -> str | None:
        return "name a folder with `train/<class>/` and `val/<class>/` after `--data`"


@dataclass(frozen=True, kw_only=True)
class ClassMismatch(Diagnostic):
    """The net's last layer has one output for each class, so the data has as many classes."""

    code = "VGG422"
    classes: int
    outputs: int
    layer: str

    def title(self) -> str:
        classes = count(self.classes, "class")
        return f"the data has {classes}, `{self.layer}` has {self.outputs} outputs"

    def help(self) -> str | None:
        return f"write `FC-{self.classes}` as the last layer, or give other data"


@dataclass(frozen=True, kw_only=True)
class EmptyClass(Diagnostic):
    """A class folder holds no image, or no annotation names the class, so nothing can be learned of
    it.
    """

    code = "VGG423"
    name: str

    def title(self) -> str:
        return f"class `{self.name}` has no images"

    def help(self) -> str | None:
        return "add images, or remove the class and lower the last FC by one"


@dataclass(frozen=True, kw_only=True)
class UnlikeClasses(Diagnostic):
    """The validation images have a class that the training images do not have."""

    code = "VGG424"
    missing: tuple[str, ...]

    def title(self) -> str:
        return f"val has classes that train has not: {', '.join(self.missing[:6])}"

    def help(self) -> str | None:
        return "use the same class folders in `train` and `val`"


@dataclass(frozen=True, kw_only=True)
class Diverged(Diagnostic):
    """The loss is no longer a number: the steps were too large for this net and these inputs.
    Narrow nets on inputs of 0 to 255 do this at a rate of 1e-2.
    """

    code = "VGG425"
    step: int
    rate: float
    saved: str | None

    def title(self) -> str:
        return f"the loss is not finite at step {self.step}, at rate {self.rate:g}"

    def help(self) -> str | None:
        return "lower `rate`, or divide the input by its spread with `std`, or start with `he`"

    def note(self) -> str | None:
        return f"the last good weights are in {self.saved}" if self.saved else None


@dataclass(frozen=True, kw_only=True)
class TooManyBadImages(Diagnostic):
    """A few unreadable images of a large set are left out; with this many something else is
    wrong, so nothing is trained on the rest.
    """

    code = "VGG426"
    bad: int
    total: int
    first: tuple[str, ...]

    def title(self) -> str:
        return f"{self.bad} of {self.total} images cannot be read"

    def help(self) -> str | None:
        return "mend or remove them, beginning with\n" + "\n".join(self.first)


@dataclass(frozen=True, kw_only=True)
class NotTrainable(Diagnostic):
    """``vggspec train`` minimises the classification loss of section 3.1, or the distance of boxes
    of appendix A.1. So the net ends in class scores, an FC or a conv, and ``soft-max``, or in an FC
    and ``boxes``.
    """

    code = "VGG427"
    because: str

    def title(self) -> str:
        return f"this net cannot be trained: {self.because}"


@dataclass(frozen=True, kw_only=True)
class BadShard(Diagnostic):
    """A shard of a WebDataset is a tar file that is not compressed, so that single images can be
    read from it. This one is something else, or a part of it is missing.
    """

    code = "VGG431"
    why: str

    def title(self) -> str:
        return f"this shard cannot be read: {self.why}"

    def help(self) -> str | None:
        return "write it again, with `webdataset.ShardWriter` for instance"


@dataclass(frozen=True, kw_only=True)
class BadSample(Diagnostic):
    """Each sample of a shard has an image and a class, and a name that no other sample has.

        0007.jpg  0007.cls

    The files of a sample lie side by side and share their name up to the first dot. The image is a
    `jpg`, `jpeg`, `png` or `webp`, the class a number from 0; other files are passed over.
    """

    code = "VGG432"
    name: str
    why: str

    def title(self) -> str:
        return f"sample `{self.name}` cannot be used: {self.why}"

    def help(self) -> str | None:
        return "write the shard again, or remove it"


@dataclass(frozen=True, kw_only=True)
class NotAnImage(Diagnostic):
    """The file cannot be read as an image: it is something else, or it is damaged. JPEG, PNG,
    WebP, BMP, GIF and TIFF are read.
    """

    code = "VGG451"
    reason: str

    def title(self) -> str:
        return f"this is not an image that can be read: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class ImageTooLarge(Diagnostic):
    """Decoding the image would take more than half a gigabyte of memory. Files made for that
    purpose are called decompression bombs.

    How many pixels an image may have depends on its format: 76 million as PNG or JPEG, 53 as a
    progressive JPEG, 31 as WebP.
    """

    code = "VGG452"
    size: tuple[int, int] | None = None
    """Columns and rows; None where a part of the image is larger than the image."""

    limit: int | None = None

    def title(self) -> str:
        if self.size is None:
            return "the image has a part with too many pixels to be decoded"
        width, height = self.size
        return f"the image has {width} × {height} pixels, more than {self.limit}"

    def help(self) -> str | None:
        return "rescale it first"


@dataclass(frozen=True, kw_only=True)
class RescaledTooLarge(Diagnostic):
    """An image is rescaled so that its smallest side is Q; a long and thin one then becomes very
    long, and the net takes memory in proportion.
    """

    code = "VGG453"
    width: int
    height: int
    scale: int
    limit: int

    def title(self) -> str:
        return (
            f"at Q = {self.scale} the image has {self.width} × {self.height} pixels,"
            f" more than {self.limit}"
        )

    def help(self) -> str | None:
        return "crop it, or give a smaller `--scales`"


@dataclass(frozen=True, kw_only=True)
class SmallerThanWindow(Diagnostic):
    """The net sees windows of a fixed size; a smaller image has none. D wants 224 × 224.

        vggspec predict D photo.jpg --scales 128      wrong
        vggspec predict D photo.jpg --scales 256      right

    The size stands in the bundle's manifest, under ``input``.
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


@dataclass(frozen=True, kw_only=True)
class GraphRescales(Diagnostic):
    """A graph that holds the test protocol rescales pictures by itself, and rounds the longer side
    to the nearest pixel. torchvision rounds it down, which ``resize torchvision`` and
    ``--resize torchvision`` ask for; other bundles do either.

        vggspec compile D.vgg --protocol -o D         rescales by itself
        vggspec compile D.vgg -o D                    is rescaled for, as `test:` or `--resize` says
    """

    code = "VGG455"

    def title(self) -> str:
        return "a graph that rescales pictures does not do it as torchvision does"

    def help(self) -> str | None:
        return "compile it without `--protocol`, or leave out `resize torchvision`"
