"""Mistakes about annotations, the boxes around objects on images (VGG68x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class NoAnnotations(Diagnostic):
    """A net of boxes learns from annotated objects. They are read from Pascal VOC's XML, next to
    class folders or in VOC's own folders, and from COCO's JSON:

        data/train/cat/1.jpg      data/annotations/train/cat/1.xml
        data/JPEGImages/1.jpg     data/Annotations/1.xml
                                  data/ImageSets/Main/train.txt
        data/train2017/1.jpg      data/annotations/instances_train2017.json

    and the same for ``val``. The exports of tools are read too: images in ``images`` or
    ``images/train`` next to COCO's file (CVAT), XML or ``_annotations.coco.json`` among the images
    (Roboflow, whose ``valid`` must be called ``val``), XML in one folder for images in several.
    """

    code = "VGG681"
    TITLE = "there are no annotations: {tried}"
    HELP = "name a folder with images and boxes; `vggspec explain VGG681` shows the layouts"
    tried: str


class BadAnnotations(Diagnostic):
    """A file that describes many images cannot be read: it is damaged, truncated, or has another
    format.

    COCO's file contains ``images``, ``annotations`` and ``categories``; VOC's list of a split
    contains one image name per line.
    """

    code = "VGG682"
    TITLE = "these annotations cannot be read: {why}"
    HELP = "download or write the file again"
    why: str


class TooManyBadAnnotations(Diagnostic):
    """An image with an invalid annotation is left out: a box is empty or outside the image, or has
    a class that the data does not have. This many indicate another problem.
    """

    code = "VGG683"
    TITLE = "the annotations of {bad} of {total:count image} cannot be used"
    bad: int
    total: int
    first: tuple[str, ...]

    def help(self) -> str | None:
        return "repair or remove them, beginning with\n" + "\n".join(self.first)


class BoxesMismatch(Diagnostic):
    """``boxes(per-class)`` has a box for each class of the data, so the layer before it must have
    four channels per class.

        FC-80(linear) boxes(per-class)       right for 20 classes
    """

    code = "VGG684"
    classes: int
    boxes: int

    def title(self) -> str:
        classes = count(self.classes, "class")
        return f"the data has {classes}, the net has boxes for {self.boxes}"

    def label(self) -> str:
        return f"{4 * self.boxes} channels, four per class"

    def help(self) -> str | None:
        return (
            f"write `FC-{4 * self.classes}(linear)` before it, or `FC-4(linear)` and"
            " `boxes(shared)`, or use other data"
        )


class BoxesOnCrops(Diagnostic):
    """During training a net of boxes is validated on the central crop of each image, whose class
    is given: the first protocol of appendix A. The other, dense protocol also needs a classifier.
    """

    code = "VGG685"
    TITLE = "a net of boxes is validated on central crops"
    HELP = "leave out `--validate dense`"
