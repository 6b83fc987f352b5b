"""Passes rewrite a network; a pipeline is a tuple of them, read from left to right.

A pass is a frozen dataclass, called with a network; it is pure, and returns the same object where
nothing changes. Doing it twice is doing it once.
"""

from typing import ClassVar, Protocol

from vggspec.base.recipe import Average, Form, Rounding
from vggspec.compiler.ir import Network
from vggspec.compiler.passes.average_before_linear import AverageBeforeLinear
from vggspec.compiler.passes.average_over_space import AverageOverSpace
from vggspec.compiler.passes.ceil_as_padding import CeilAsPadding
from vggspec.compiler.passes.check_joins import CheckJoins
from vggspec.compiler.passes.drop_softmax import DropSoftmax
from vggspec.compiler.passes.drop_training_ops import DropTrainingOps
from vggspec.compiler.passes.fc_to_conv import FcToConv
from vggspec.compiler.passes.finer_stride import FinerStride
from vggspec.compiler.passes.keep_up_to import KeepUpTo, before_last
from vggspec.compiler.passes.linear_before_average import LinearBeforeAverage
from vggspec.compiler.passes.round_pools import RoundPools


class Pass(Protocol):
    """One rewrite."""

    name: ClassVar[str]

    def __call__(self, network: Network) -> Network:
        """The network after the rewrite."""


def inference(
    form: Form,
    average: Average = "scores",
    *,
    keep_map: bool = False,
    pool: Rounding | None = None,
    stride: int | None = None,
    layer: str | None = None,
) -> tuple[Pass, ...]:
    """What a net goes through before it classifies images.

    ``crop`` keeps FC layers and takes images of one size; ``dense`` takes any larger size
    (section 3.2 of the paper). ``pool`` is how poolings round, ``stride`` how many pixels lie
    between two positions of the score map; None is as the spec says. ``layer`` is the one whose
    numbers, averaged over space, are the output; of a crop they are a vector as they are.
    """
    is_crop = form == "crop"
    cut = () if layer is None else (KeepUpTo(layer=layer, flat=is_crop),)
    rounded = () if pool is None else (RoundPools(pool),)
    finer = () if stride is None else (FinerStride(stride),)
    # What is averaged of a cut net is its last layer, were it the soft-max.
    after = average if layer is None else "posteriors"
    over_space = AverageOverSpace(average=after, keep_map=keep_map)
    if is_crop:
        return (*cut, DropTrainingOps(), *rounded, *finer, over_space)
    return (
        *cut,  # first, so that it may name any layer of the spec
        DropTrainingOps(),  # before those that would have to look past a dropout
        *rounded,
        FcToConv(),
        CheckJoins(),  # of the convolutions that fc-to-conv makes too
        *finer,  # dilates the convolutions that fc-to-conv makes
        *((LinearBeforeAverage(),) if keep_map else ()),
        over_space,  # needs the map that fc-to-conv makes
        AverageBeforeLinear(),  # needs the average
    )


def comparison(pool: Rounding | None = None) -> tuple[Pass, ...]:
    """What a net goes through whose maps are compared: they stay as they are."""
    rounded = () if pool is None else (RoundPools(pool),)
    return (DropTrainingOps(), *rounded, CheckJoins())


__all__ = [
    "TRAINING",
    "AverageBeforeLinear",
    "AverageOverSpace",
    "CeilAsPadding",
    "CheckJoins",
    "DropSoftmax",
    "DropTrainingOps",
    "FcToConv",
    "FinerStride",
    "Form",
    "KeepUpTo",
    "LinearBeforeAverage",
    "Pass",
    "RoundPools",
    "before_last",
    "comparison",
    "inference",
    "run",
]

#: What a net goes through before it is trained: the loss takes class scores.
TRAINING: tuple[Pass, ...] = (DropSoftmax(), AverageOverSpace())


def run(pipeline: tuple[Pass, ...], network: Network) -> Network:
    """Apply the passes one after the other, none twice to one net."""
    for each in pipeline:
        network = network.once(each)
    return network
