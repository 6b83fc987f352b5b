"""Mistakes found while a bundle is compared with the same net in fp32 (VGG65x)."""

from vggspec.base.diagnostic import Diagnostic


class NothingToVerifyAgainst(Diagnostic):
    """``--against onnxrt`` runs the fp32 graph that a bundle with an engine, or with a graph in
    fp16 or int8, contains beside its model. A bundle in fp32 has no second graph. The graph or its
    weights may also have been deleted.
    """

    code = "VGG650"
    TITLE = "the bundle has no fp32 graph to compare with"
    HELP = "give `--against torch`, or compile the bundle again"


class NoWeightsToVerify(Diagnostic):
    """``--against torch`` requires the bundle's weights: ``1/model.safetensors``, or those inside
    the graph. A bundle with an engine, or in int8, runs without that file, so it may have been
    deleted.
    """

    code = "VGG652"
    TITLE = "the bundle does not contain the weights to compare with: {missing} is missing"
    HELP = "compile the bundle again"
    missing: str


class OtherOutputs(Diagnostic):
    """The outputs of the bundle's model and of its reference differ in name or shape, so one of the
    two is another net's.
    """

    code = "VGG653"
    TITLE = "the bundle and its reference cannot be compared: {reason}"
    HELP = "compile the bundle again"
    reason: str


class NoImagesToVerify(Diagnostic):
    """``--images`` names a folder of pictures, which are rescaled as the test protocol says. The
    folder contains none, or none that fits a profile of the engine.
    """

    code = "VGG654"
    TITLE = "{reason}"
    HELP = "give a folder with pictures of usual proportions, or omit `--images`"
    reason: str
