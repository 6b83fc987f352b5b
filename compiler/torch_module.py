"""``vggspec.torch_module``: a net as a PyTorch module."""

import os
from typing import TYPE_CHECKING

from vggspec.base.arguments import check_choice
from vggspec.base.catalogue.backends import NoScoreMap
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import Average

if TYPE_CHECKING:
    from vggspec.compiler.backends.torch.module import SpecModule


def torch_module(
    spec: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    dense: bool = False,
    average: Average = "scores",
    keep_map: bool = False,
) -> "SpecModule":
    """A spec as a PyTorch module, whose submodules and ``state_dict`` have the layers' names.

    It takes float32 ``(N, C, H, W)`` and returns the net's output, ``(N, classes)``; a dict of
    tensors by name where the spec names several ``outputs``, with gradients. The numbers
    are ``(x - mean) * scale / std``, x from 0 to 255, with those of the module's ``network.input``:
    as the spec says, or as the weights expect where it says nothing.
    ``dense`` gives the fully convolutional form on the same weights, for images of any larger
    size, averaged over space; with ``keep_map`` it returns a dict with ``score_map``
    ``(N, classes, h, w)`` too.

    With ``weights``, which are mapped into memory and not copied, the module is in ``eval()`` mode:
    dropout is off. Without them it has PyTorch's initial weights and is in ``train()`` mode.

    Raises:
        VggspecError: the spec has mistakes, the weights are another net's or expect another input,
            or ``keep_map`` is given without ``dense``.
        ArgumentError: ``average`` is none of the choices.
        MissingLibraryError: PyTorch is not installed.
    """
    from vggspec.base.optional import require

    check_choice("average", average, Average)
    if keep_map and not dense:
        because = "a crop has one position: `dense` has a map of them"
        raise VggspecError(report(NoScoreMap(because=because), path=os.fspath(spec)))
    require("torch", "a PyTorch module")
    from vggspec.compiler.backends.torch import module as backend
    from vggspec.compiler.input_contract import settled
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.passes import AverageBeforeLinear, DropTrainingOps, inference, run
    from vggspec.compiler.results import check_map
    from vggspec.compiler.weights import open_weights

    # Dropout stays in both forms: `train()` and `eval()` switch it.
    left_out = AverageBeforeLinear, DropTrainingOps
    passes = inference("dense" if dense else "crop", average, keep_map=keep_map)
    pipeline = tuple(each for each in passes if not isinstance(each, left_out))
    lowered = load_network(os.fspath(spec))
    if keep_map:
        check_map(lowered.network, run(pipeline, lowered.network))
    if weights is None:
        return backend.emit(run(pipeline, lowered.network))
    file = open_weights(weights)
    known, mean_from = settled(lowered, file)
    network = run(pipeline, (lowered if mean_from == "ILSVRC" else known).network)
    return backend.loaded(network, file).eval()
