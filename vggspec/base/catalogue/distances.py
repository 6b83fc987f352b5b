"""Mistakes in comparing pictures with a bundle compiled with ``--distance`` (VGG717 to VGG721)."""

from vggspec.base.diagnostic import Diagnostic

Size = tuple[int, int]


class ComparesPictures(Diagnostic):
    """The graph of this bundle takes two pictures and returns their distance: it was compiled with
    ``--distance``. It gives neither classes nor activations of one picture.

        vggspec predict lpips photo.jpg               wrong
        vggspec distance lpips photo.jpg other.jpg    right
    """

    code = "VGG717"
    TITLE = "the bundle gives the distance of two pictures, and this requires a net of one"
    HELP = (
        "use `vggspec distance`, or in Python `vggspec.load(BUNDLE).distance(FIRST, SECOND)`;\n"
        "or compile the spec without `--distance`"
    )


class NoDistance(Diagnostic):
    """Only a bundle that was compiled with ``--distance`` compares pictures.

    vggspec compile lpips --weights lpips.safetensors --distance
    vggspec distance lpips photo.jpg other.jpg
    """

    code = "VGG718"
    TITLE = "the net gives {output}, not the distance of two pictures"
    HELP = "compile its spec with `--distance`"
    output: str


class SizesDiffer(Diagnostic):
    """Pictures are compared position by position, so both must have the same number of pixels in
    each direction. Neither is rescaled: how that is done changes the distance.
    """

    code = "VGG719"
    HELP = "crop or rescale one of them to the size of the other"
    first: Size
    """Rows and columns."""

    second: Size

    def title(self) -> str:
        return f"the first picture has {_by(self.first)} pixels, the second {_by(self.second)}"


class TooSmallToCompare(Diagnostic):
    """The poolings of the net leave nothing of pictures as small as these. The least size is in the
    bundle's manifest, under ``input``.
    """

    code = "VGG720"
    HELP = "take larger pictures, or end the spec before its last poolings"
    size: Size
    """Rows and columns."""

    least: Size

    def title(self) -> str:
        return (
            f"the pictures have {_by(self.size)} pixels, and the net takes {_by(self.least)} or"
            " more"
        )


class TooLargeToCompare(Diagnostic):
    """Both pictures go through the net at once, which takes memory in proportion to their size."""

    code = "VGG721"
    HELP = "crop or rescale both"
    size: Size
    """Rows and columns."""

    limit: int
    """Pixels."""

    def title(self) -> str:
        return f"the pictures have {_by(self.size)} pixels, more than {self.limit}"


def _by(size: Size) -> str:
    return f"{size[0]} × {size[1]}"
