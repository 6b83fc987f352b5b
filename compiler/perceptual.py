"""``vggspec.perceptual``: the distance of two images in the features of a net."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vggspec.base.arguments import one_or_several
from vggspec.base.diagnostic import ArgumentError

if TYPE_CHECKING:
    from vggspec.compiler.backends.torch.perceptual import Perceptual


def perceptual(
    spec: str | os.PathLike[str],
    weights: str | os.PathLike[str],
    *,
    taps: Sequence[str] | None = None,
    factors: str | os.PathLike[str] | None = None,
    pixels: tuple[float, float] = (0.0, 1.0),
) -> "Perceptual":
    """The perceptual distance LPIPS, as a PyTorch module for losses.

    The module takes two batches of images, ``(N, C, H, W)`` each with values from ``pixels[0]``
    (black) to ``pixels[1]`` (white) in RGB order, or gray, and returns ``(N,)`` distances. It
    normalises the images as the weights expect. Gradients reach both images; the weights are
    frozen, and the module stays in ``eval()`` mode.

    At each position the features of a tap are divided by their length over the channels. The
    squared differences of the two images are weighted with ``factors`` and summed over the
    channels, averaged over the positions, and summed over the taps.

    ``taps`` are names of layers: a conv means its numbers after its ReLU. By default they are the
    net's outputs, those of ``specs/lpips.vgg`` for the distance as published. ``factors`` is a
    checkpoint with an array ``lin0.model.1.weight`` for each tap, in order, as the package
    ``lpips`` has in ``lpips/weights/v0.1/vgg.pth``; without it all channels count alike.
    ``module.weights_sha256`` is the digest of the weights' numbers, to report with results.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric", section 3.

    Raises:
        VggspecError: the spec has mistakes or no such layer, the weights are another net's, or the
            factors do not fit the taps.
        ArgumentError: ``pixels`` is empty or reversed.
        MissingLibraryError: PyTorch is not installed.
    """
    from vggspec.base.optional import require

    require("torch", "a perceptual distance")
    from vggspec.compiler.backends.torch import module as backend
    from vggspec.compiler.backends.torch.perceptual import Perceptual
    from vggspec.compiler.factors import read_factors
    from vggspec.compiler.input_contract import settled
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.passes import DropTrainingOps
    from vggspec.compiler.passes.keep_outputs import KeepOutputs
    from vggspec.compiler.weights import open_weights

    low, high = pixels
    if not low < high:
        raise ArgumentError(f"pixels must be the values of black and of white, not {pixels}")
    file = open_weights(weights)
    lowered, _ = settled(load_network(os.fspath(spec)), file)
    network = DropTrainingOps()(lowered.network)
    if taps is not None:
        network = KeepOutputs(tuple(one_or_several("taps", taps)))(network)
    arrays = read_factors(None if factors is None else os.fspath(factors), network)
    features = backend.loaded(network, file, of=lowered.network)
    module = Perceptual(features, arrays, (low, high))
    module.weights_sha256 = file.data_sha256()
    return module
