"""Mistakes found while a net is compiled (VGG3xx)."""

from vggspec.base.diagnostic import Diagnostic


class TooLargeForOneFile(Diagnostic):
    """An ONNX file is a protobuf message, which is limited to 2 GiB. Without ``--single-file`` the
    weights stay in their own file, which has no such limit.
    """

    code = "VGG301"
    HELP = "remove `--single-file`"
    bytes: int

    def title(self) -> str:
        return f"{self.bytes / 2**30:.1f} GiB of weights do not fit in one ONNX file"


class NothingToAverage(Diagnostic):
    """``average posteriors`` takes the soft-max at each position of the class score map and then
    the mean; a net without ``soft-max`` has no posteriors, and those of ``soft-max(map)`` stay
    apart.
    """

    code = "VGG302"
    TITLE = "posteriors cannot be averaged: the net does not end in `soft-max`"
    HELP = "end the net with `soft-max`, or average scores"


class NoScoreMap(Diagnostic):
    """A class score map has a score for every class at every position of the image; a net has one
    when it is applied densely and ends in class scores.
    """

    code = "VGG303"
    TITLE = "there is no class score map: {because}"
    HELP = "remove `--map`, or compile a net that ends in class scores, with `--dense`"
    because: str
