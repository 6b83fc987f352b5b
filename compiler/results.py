"""What the outputs of a net are.

A net without the line ``outputs`` has one, called by its kind. Those that the line names are called
by their layers, and are the activations of these; where the first one is a soft-max the net
classifies, and where it is boxes it localises.
"""

from collections.abc import Sequence
from typing import cast

from vggspec.bundle.manifest import OutputKind
from vggspec.compiler.ir import FEATURES, Network, Output
from vggspec.compiler.ops.boxes import Boxes
from vggspec.compiler.ops.softmax import Softmax

SCORE_MAP = "score_map"

#: Names that no layer of a spec has.
OF_KINDS = ("posteriors", "scores", FEATURES, SCORE_MAP)


def kind_of(network: Network, output: Output) -> OutputKind:
    """The kind of an output of a net that is as its spec has it, or that was prepared from it."""
    if output.name in OF_KINDS:
        return cast("OutputKind", output.name)
    first = network.outputs[0]
    if output.name == first.name and isinstance(network[first.layer].op, Softmax):
        return "posteriors"
    if output.name == first.name and isinstance(network[first.layer].op, Boxes):
        return "boxes"
    return "activations"


def result_of(network: Network) -> OutputKind:
    """The kind of the main output of a net that is as its spec has it."""
    return kind_of(network, network.outputs[0])


def in_words(outputs: Sequence[Output]) -> str:
    """``activations of conv1_2, conv2_2``"""
    return f"activations of {', '.join(output.name for output in outputs)}"
