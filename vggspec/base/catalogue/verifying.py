"""Mistakes found while a bundle is compared with the same net in fp32 (VGG65x)."""

from dataclasses import dataclass

from vggspec.base.diagnostic import Diagnostic


@dataclass(frozen=True, kw_only=True)
class NothingToVerifyAgainst(Diagnostic):
    """``--against onnxrt`` runs the fp32 graph that a bundle of lower precision, or with an engine,
    holds beside its model, on the weights beside it. An fp32 graph has none, since it would be the
    same file; both may have been deleted.
    """

    code = "VGG650"

    def title(self) -> str:
        return "the bundle has no fp32 graph to be verified against"

    def help(self) -> str | None:
        return "give `--against torch`, or compile the bundle again"


@dataclass(frozen=True, kw_only=True)
class NoWeightsToVerify(Diagnostic):
    """``--against torch`` wants the bundle's weights: ``1/model.safetensors``, or those that the
    graph holds. The file may be deleted from a bundle with an engine.
    """

    code = "VGG652"
    missing: str

    def title(self) -> str:
        return f"the bundle does not hold the weights to be verified: {self.missing} is missing"

    def help(self) -> str | None:
        return "compile the bundle again"


@dataclass(frozen=True, kw_only=True)
class OtherOutputs(Diagnostic):
    """The bundle's model and its reference do not give the same outputs, so one of them is not the
    net's.
    """

    code = "VGG653"
    reason: str

    def title(self) -> str:
        return f"the bundle and its reference cannot be compared: {self.reason}"

    def help(self) -> str | None:
        return "compile the bundle again"


@dataclass(frozen=True, kw_only=True)
class NoImagesToVerify(Diagnostic):
    """``--images`` names a folder of pictures, which are rescaled as the test protocol says. None
    was found in it, or none of them fits a profile of the engine.
    """

    code = "VGG654"
    reason: str

    def title(self) -> str:
        return self.reason

    def help(self) -> str | None:
        return "give a folder with pictures of ordinary proportions, or leave `--images` out"
