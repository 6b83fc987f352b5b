"""Passes rewrite a network; a pipeline is a tuple of them, read from left to right.

A pass is a frozen dataclass, called with a network; it is pure, and returns the same object where
nothing changes. Doing it twice is doing it once.
"""

from typing import ClassVar, Literal, Protocol

from vggspec.compiler.ir import Network
from vggspec.compiler.passes.average_before_linear import AverageBeforeLinear
from vggspec.compiler.passes.average_over_space import AverageOverSpace
from vggspec.compiler.passes.drop_softmax import DropSoftmax
from vggspec.compiler.passes.drop_training_ops import DropTrainingOps
from vggspec.compiler.passes.fc_to_conv import FcToConv
from vggspec.recipe import Average

Form = Literal["dense", "crop"]


class Pass(Protocol):
    """One rewrite."""

    name: ClassVar[str]

    def __call__(self, network: Network) -> Network:
        """The network after the rewrite."""


def inference(
    form: Form, average: Average = "scores", *, keep_map: bool = False
) -> tuple[Pass, ...]:
    """What a net goes through before it classifies images.

    ``crop`` keeps FC layers and takes images of one size; ``dense`` takes any larger size
    (section 3.2 of the paper).
    """
    over_space = AverageOverSpace(average=average, keep_map=keep_map)
    if form == "crop":
        return (DropTrainingOps(), over_space)
    return (
        DropTrainingOps(),  # first, so that no pass has to look past a dropout
        FcToConv(),
        over_space,  # wants the map that fc-to-conv makes
        AverageBeforeLinear(),  # wants the average
    )


__all__ = [
    "TRAINING",
    "AverageBeforeLinear",
    "AverageOverSpace",
    "DropSoftmax",
    "DropTrainingOps",
    "FcToConv",
    "Form",
    "Pass",
    "inference",
    "run",
]

#: What a net goes through before it is trained: the loss takes class scores.
TRAINING: tuple[Pass, ...] = (DropSoftmax(), AverageOverSpace())


def run(pipeline: tuple[Pass, ...], network: Network) -> Network:
    """Apply the passes one after the other."""
    for each in pipeline:
        network = each(network)
    return network
