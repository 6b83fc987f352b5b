"""Mistakes in applying nets that label each pixel (VGG589 to VGG593)."""

from vggspec.base.diagnostic import Diagnostic


class NoRoomForTile(Diagnostic):
    """A net compiled with ``--crop`` takes images of one size, so a larger image is computed in
    tiles of that size. Positions near the edge of a tile see its padding instead of the image and
    are not used; here all of them are near an edge.

        vggspec compile fcn8s --weights W --crop      takes 512 x 512 alone
        vggspec compile fcn8s --weights W             takes larger images as a whole
    """

    code = "VGG589"
    TITLE = (
        "the image is larger than the {side} pixels that the net takes, and its positions see "
        "{seen} pixels each, which leaves nothing of a tile"
    )
    HELP = "compile the net without `--crop`, or give a `--scales` at which the image fits"
    side: int
    seen: int


class PosteriorsTooLarge(Diagnostic):
    """All posteriors of an image are a number for each class and pixel. The labels and their
    posteriors alone take a small part of that:

        vggspec.load("fcn8s")("photo.jpg").label_map.labels
    """

    code = "VGG590"
    TITLE = "posteriors of {classes} classes for {width} × {height} pixels take more than 1 GiB"
    HELP = "use the labels and their confidence, or a smaller image"
    classes: int
    width: int
    height: int


class CropsOfLabelMap(Diagnostic):
    """``crops`` average the class of an image over windows of it. A net that ends in
    ``soft-max(map)`` has a class for each pixel, and is applied to the whole image, at the scales
    of ``test:`` and to its mirror image.

        conv1-21
        soft-max(map)     wrong with these crops
        test:
          crops 5x5
    """

    code = "VGG593"
    TITLE = "a net that labels pixels is not tested by crops"
    HELP = "remove `crops` from `test:`, or end the net in `soft-max`"


class LabelsPixels(Diagnostic):
    """The net of this bundle gives a class for each pixel, not one for the image: its spec ends in
    ``soft-max(map)``. ``vggspec predict`` writes and draws label maps.

        vggspec predict fcn8s photo.jpg --mask mask.png --overlay overlay.png
    """

    code = "VGG591"
    TITLE = "the net labels each pixel, and this requires {required}"
    HELP = "use `vggspec predict` with `--mask` or `--overlay`"
    required: str


class NoLabelMap(Diagnostic):
    """Only a net whose spec ends in ``soft-max(map)`` labels pixels. A net that classifies shows
    where it sees a class by a heat map of its class score map.

        vggspec predict D photo.jpg --heatmap heat.png
    """

    code = "VGG592"
    TITLE = "the net gives {output}, not a label for each pixel"
    HELP = "for a net that classifies use `--heatmap`"
    output: str
