"""What the outputs of a net are.

A net without the line ``outputs`` has one, called by its kind. Those that the line names are called
by their layers, and are the activations of these; where the first one is a soft-max the net
classifies, where it is a ``soft-max(map)`` the net labels positions, and where it is boxes it
localises.
"""

from collections.abc import Sequence
from typing import cast

from vggspec.base.catalogue.backends import NoScoreMap
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import OutputKind
from vggspec.compiler.ir import FEATURES, POSTERIOR_MAP, SCORE_MAP, Network, Output
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.softmax import Softmax

#: Names that no layer of a spec has.
OF_KINDS = ("posteriors", "scores", FEATURES, SCORE_MAP, POSTERIOR_MAP)


def kind_of(network: Network, output: Output) -> OutputKind:
    """The kind of an output of a net that is as its spec has it, or that was prepared from it."""
    if output.name in OF_KINDS:
        return cast("OutputKind", output.name)
    first = network.outputs[0]
    op = network[first.layer].op
    if output.name == first.name and isinstance(op, Softmax):
        return "posterior_map" if op.per_position else "posteriors"
    if output.name == first.name and isinstance(op, Boxes):
        return "boxes"
    return "activations"


def result_of(network: Network) -> OutputKind:
    """The kind of the main output of a net that is as its spec has it."""
    return kind_of(network, network.outputs[0])


def is_plain(network: Network) -> bool:
    """Whether a net gives one vector of class scores or posteriors and nothing else."""
    (first, *more) = network.outputs
    result = network.type_of(first.layer)
    is_vector = not result.is_map or result.size == (1, 1)
    return not more and is_vector and kind_of(network, first) in ("posteriors", "scores")


def check_map(network: Network, prepared: Network) -> None:
    """Refuse a class score map of a net whose first output is the map of an inner layer.

    Raises:
        VggspecError: it is such a net.
    """
    is_inner = result_of(network) == "activations"
    if is_inner and all(output.name != SCORE_MAP for output in prepared.outputs):
        because = f"the net gives {in_words(network.outputs)}"
        raise VggspecError(report(NoScoreMap(because=because), path=f"net {network.name}"))


def in_words(outputs: Sequence[Output]) -> str:
    """``activations of conv1_2, conv2_2``"""
    return f"activations of {', '.join(output.name for output in outputs)}"
