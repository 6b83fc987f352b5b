"""Mistakes in ONNX models whose weights are imported (VGG585 to VGG587)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class UnreadableModel(Diagnostic):
    """``import`` takes the weights of an ONNX model as the nodes ``Conv``, ``Gemm``, ``MatMul`` and
    ``BatchNormalization`` read them: from initializers or constants. It refuses models that are
    quantised, that compute their kernels, that have their layers in the body of a ``Loop`` or of a
    function, or whose first FC layer takes a map with the channels last.
    """

    code = "VGG585"
    TITLE = "import cannot take the weights of this ONNX model: {why}"
    HELP = "{way}"
    why: str
    way: str


class FoldedNorms(Diagnostic):
    """An exporter may fold batch normalisations into the convolutions before them. The factors and
    statistics are then lost, and the weights are those of the net without batch normalisation,
    with biases.

        torch.onnx.export(model.eval(), x, "net.onnx", dynamo=True, optimize=False)
        torch.onnx.export(model, x, "net.onnx", dynamo=False, do_constant_folding=False,
                          training=torch.onnx.TrainingMode.PRESERVE)
    """

    code = "VGG586"
    HELP = (
        "import the checkpoint that it was exported from, or export it without folding; or leave"
        " out `BN` in the spec, where each conv has a bias"
    )
    net: str
    needs: int
    has: int

    def title(self) -> str:
        needs = count(self.needs, "batch normalisation")
        return (
            f"net {self.net} has {needs}, this ONNX model {self.has or 'none'}: the exporter"
            " folded them into the convolutions"
        )


class BadDataFile(Diagnostic):
    """An ONNX model may keep its numbers in files beside it. These are read from its own folder and
    the folders in it: no path leads out of them, and no link is followed.
    """

    code = "VGG587"
    TITLE = "the numbers of `{tensor}` are in `{location}`: {reason}"
    HELP = "{way}"
    tensor: str
    location: str
    reason: str
    way: str
