"""What a perceptual distance compares, and the factors that its channels are weighted with."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.variants import NoTaps, OtherFactors
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.ir import Network
from vggspec.compiler.weights import not_finite

Factors = Sequence[NDArray[np.float32]]
"""``(C,)`` for each tap."""


def array_of(tap: int) -> str:
    """The name of the factors of a tap in a file, as the package ``lpips`` writes it."""
    return f"lin{tap}.model.1.weight"


def taps(network: Network) -> tuple[int, ...]:
    """The channels of each output of a net whose outputs are compared.

    Raises:
        VggspecError: an output is no map.
    """
    maps = [network.type_of(output.layer) for output in network.outputs]
    if not all(kind.is_map for kind in maps):
        raise VggspecError(report(NoTaps(net=network.name), path=f"net {network.name}"))
    return tuple(kind.channels for kind in maps)


def read_factors(path: str | None, network: Network) -> Factors:
    """The factors of each tap; without a file all channels count alike.

    Raises:
        VggspecError: an output is no map; or the file cannot be read, is for other taps, or has
            numbers that are not finite.
    """
    expected = taps(network)
    if path is None:
        return [np.ones(channels, np.float32) for channels in expected]
    from vggspec.compiler.importing.checkpoint import read_checkpoint

    tensors = read_checkpoint(path).tensors
    found: list[NDArray[np.float32]] = []
    while (array := tensors.get(array_of(len(found)))) is not None:
        found.append(array.reshape(-1).astype(np.float32, copy=False))
    sizes = tuple(array.size for array in found)
    if sizes != expected:
        raise VggspecError(report(OtherFactors(expected=expected, found=sizes), path=path))
    flaws = not_finite({array_of(i): array for i, array in enumerate(found)})
    if flaws is not None:
        raise VggspecError(report(flaws, path=path))
    return found
