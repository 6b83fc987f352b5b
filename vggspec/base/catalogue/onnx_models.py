"""Mistakes in ONNX models whose weights are imported (VGG585 to VGG587), or whose spec is written
(VGG722 to VGG725).
"""

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
        torch.onnx.export(model, x, "net.onnx", dynamo=False,
                          do_constant_folding=False,
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


class Inexpressible(Diagnostic):
    """``import --write-spec`` writes the spec of a net from an ONNX model, node by node. A node
    computes what no layer of the language does.

    The layers are convolutions, grouped and depthwise ones too, batch normalisation, ReLU, ReLU6
    and SiLU, maximum and average pooling, global average pooling, local response normalisation,
    dropout, fully connected layers, soft-max at the end, sums of branches and joined channels.
    Their strides and paddings are the same in both directions, and a padding is the same on both
    sides. All else would be another net, so nothing is written.
    """

    code = "VGG722"
    TITLE = "a spec cannot say what {node} does: {why}"
    HELP = "{way}"
    node: str
    why: str
    way: str


class NotOneClassifier(Diagnostic):
    """``import --write-spec`` writes the spec of a net that takes an image and gives a number for
    each class: an input ``(N, C, H, W)`` of float32 with one channel or three, and one output
    ``(N, classes)``.

    Where the model leaves open how many rows and columns its input has, name them:

        vggspec import net.onnx --write-spec net.vgg --input 224x224
    """

    code = "VGG723"
    TITLE = "a spec cannot be written of this model: {why}"
    HELP = "{way}"
    why: str
    way: str


class NotTheModel(Diagnostic):
    """``import --write-spec`` runs the net of the spec that it wrote, with the weights, and the
    ONNX model, both in ONNX Runtime and on the same images of noise. Their outputs differ by more
    than rounding explains, so the spec is not that of the model. Neither file is left behind.

    An operation of the model was read as another one, which is a bug in vggspec. Please report it
    with the model or the code that exported it.
    """

    code = "VGG724"
    TITLE = "the net of the spec gives other outputs than the model: {differ}"
    HELP = "write a spec by hand, and import the weights with `vggspec import SPEC {model}`"
    differ: str
    model: str


class NoGraph(Diagnostic):
    """``import --write-spec`` reads the layers of a net and how they are connected from an ONNX
    model. Files of weights alone do not say it.

        torch.onnx.export(model.eval(), torch.zeros(1, 3, 224, 224), "net.onnx")
        vggspec import net.onnx --write-spec net.vgg
    """

    code = "VGG725"
    TITLE = "only an ONNX model says how the layers of a net are connected, and this is {kind}"
    HELP = "export the net to ONNX, or name a spec: `vggspec import SPEC CHECKPOINT`"
    kind: str
