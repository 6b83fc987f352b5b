"""Mistakes about masks, the pictures that label each pixel of another (VGG437 to VGG443)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class NoMasks(Diagnostic):
    """A net of label maps learns from pictures with masks: a mask is a PNG of its picture's size
    whose numbers are labels, 0 for the first class. 255 labels nothing, and is ignored.

        data/images/train/1.jpg       data/masks/train/1.png
        data/train/images/1.jpg       data/train/masks/1.png

    and the same for ``val``, with ``data/classes.txt``: the names of the classes, a line each. The
    layouts of Pascal VOC and of Cityscapes are read too, whose classes are known:

        data/JPEGImages/1.jpg         data/SegmentationClass/1.png
                                      data/ImageSets/Segmentation/train.txt
        data/leftImg8bit/train/ulm/ulm_1_leftImg8bit.png
        data/gtFine/train/ulm/ulm_1_gtFine_labelTrainIds.png, or labelIds.png
    """

    code = "VGG437"
    TITLE = "there are no pictures with masks: {tried}"
    HELP = "name a folder with pictures and masks; `vggspec explain VGG437` shows the layouts"
    tried: str


class NoMaskClasses(Diagnostic):
    """A mask has numbers, and no names for them. They are in ``classes.txt`` in the folder of the
    data, a line for each class: the first line is the name of label 0, mostly the background.

        background
        cat
        dog

    255 labels nothing and has no line, so there are at most 255 classes.
    """

    code = "VGG438"
    TITLE = "the classes of the masks are not known: {why}"
    HELP = "write `classes.txt` there, a name a line; the first is that of label 0"
    why: str


class MasksMismatch(Diagnostic):
    """A net of label maps has a score for each class at each position, so its last layer must have
    as many channels as the masks have classes, the background among them.

        conv1-21(linear) soft-max(map)     right for 20 classes and the background
    """

    code = "VGG439"
    classes: int
    channels: int
    names: tuple[str, ...]

    def title(self) -> str:
        return f"the masks have {count(self.classes, 'class')}, the net labels {self.channels}"

    def label(self) -> str:
        return f"{self.channels} channels come in"

    def help(self) -> str | None:
        first = ", ".join(f"`{name}`" for name in self.names[:6])
        more = f" and {len(self.names) - 6} more" if len(self.names) > 6 else ""
        return f"end in {self.classes} channels, or use other data; the classes are {first}{more}"


class ColouredMask(Diagnostic):
    """Labels are the numbers of a mask: the values of a gray PNG, or the indices of a PNG with a
    palette. A mask in colours has none, and which colour is which class is not written anywhere.

    Pascal VOC's masks have a palette. They lose it where a program opens them and saves them as
    RGB; the downloaded files are right.
    """

    code = "VGG440"
    TITLE = "this mask has no labels: {why}"
    HELP = "save it as a gray PNG or one with a palette, whose numbers are the labels"
    why: str


class TwoValuedMasks(Diagnostic):
    """All masks that were looked at have the values 0 and 255 alone. 255 labels nothing, so a net
    would learn label 0 and nothing else. Tools that cut out one object write 255 where it is, which
    has to be 1.

        from PIL import Image
        Image.open("1.png").point(lambda value: value and 1).save("1.png")
    """

    code = "VGG441"
    TITLE = "the masks have the values 0 and 255 alone, and 255 is ignored"
    HELP = "write 1 for the class that has 255"


class NotRehearsed(Diagnostic):
    """``train --overfit`` counts the images that are wrong. Of a net of label maps each picture has
    many classes, so that it is never right or wrong as a whole; ``--dry-run`` and ``--find-rate``
    are for such nets too.
    """

    code = "VGG443"
    TITLE = "this net is not rehearsed so: {because}"
    HELP = "use `--dry-run` or `--find-rate`, or train for an epoch: --set 'stop=after 1 epochs'"
    because: str


class TooManyBadMasks(Diagnostic):
    """A picture is left out where its mask is missing or is no mask, has another size than the
    upright picture, has a label of no class, or labels no pixel; and where the picture cannot be
    read. This many indicate another problem, so the command stops.
    """

    code = "VGG442"
    TITLE = "{bad} of {total:count picture} cannot be used with their masks"
    bad: int
    total: int
    first: tuple[str, ...]

    def help(self) -> str | None:
        return "repair or remove them, beginning with\n" + "\n".join(self.first)
