"""Batch normalisations become part of the convs before them, in the weights too.

A conv that computes in int8 rounds its result; a factor a channel afterwards would spend the levels
of that rounding on numbers that are then made small.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vggspec.compiler.ir import Network
from vggspec.compiler.merging.numbers import MergedNumbers
from vggspec.compiler.merging.plan import plan
from vggspec.compiler.weights import Array, WeightsFile, layers_sha256, open_weights, write


def folded(network: Network, weights: WeightsFile, path: Path) -> tuple[Network, WeightsFile]:
    """The net with batch normalisations and branches folded into convs, and its weights, written to
    ``path``; the net and the file themselves if there is nothing to fold.

    Raises:
        VggspecError: a number of the result is not finite, or the system refuses.
    """
    planned = plan(network, {})
    if not planned.folded:
        return network, weights
    result = planned.network
    numbers = MergedNumbers(weights, network)
    params = {param.name: (param, layer) for layer in result.layers for param in layer.params}

    def chunks(name: str) -> Iterator[Array]:
        param, layer = params[name]
        return numbers.chunks(param, layer, layer.name, planned)

    shapes = {name: param.stored for name, (param, _) in params.items()}
    metadata = replace(weights.metadata, layers_sha256=layers_sha256(result), data_sha256=None)
    write(path, shapes, chunks, metadata)
    return result, open_weights(path)
