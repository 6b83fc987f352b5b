"""``vggspec.export``: a net as source code of another framework."""

import os
from pathlib import Path
from typing import Literal

from vggspec.base.arguments import check_choice
from vggspec.base.catalogue import backends
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.recipe import Average, Form, Rounding

Target = Literal["torch-source"]


def export(
    spec: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: Target = "torch-source",
    form: Form = "crop",
    average: Average | None = None,
    keep_map: bool = False,
    pool: Rounding | None = None,
    stride: int | None = None,
    layer: str | None = None,
    scores: bool = False,
) -> Path:
    """Write PyTorch source that needs nothing but torch, as ``vggspec compile --torch`` does.

    The options are those of ``CompileOptions``. Dropout stays in the module, so that it can be
    trained further; the source loads any weights file of the net. ``scores`` leaves the soft-max
    out: ``CrossEntropyLoss`` takes class scores, which the dense form averages over space.

    The source of a dense net has a function ``exported``, which gives ``torch.export``'s program
    for images of any size that the net takes.

    Raises:
        VggspecError: the spec has mistakes, the options do not fit the net, or the system refuses.
        ArgumentError: a word is none of the choices, or ``scores`` contradicts another option or
            the net, which gives none.
    """
    from vggspec.base.files import write_text
    from vggspec.compiler.backends.torch import source as torch_source
    from vggspec.compiler.lower import load_network
    from vggspec.compiler.passes import (
        AverageBeforeLinear,
        CeilAsPadding,
        DropSoftmax,
        DropTrainingOps,
        Pass,
        inference,
        run,
    )
    from vggspec.compiler.results import check_map, result_of

    check_choice("to", to, Target)
    check_choice("form", form, Form)
    check_choice("average", average, Average)
    check_choice("pool", pool, Rounding)
    if scores and layer is not None:
        raise ArgumentError("--scores outputs class scores: it cannot be used with --layer")
    if scores and average == "posteriors":
        raise ArgumentError("--scores outputs no posteriors: it cannot be used with their average")
    lowered = load_network(os.fspath(spec))
    if scores and result_of(lowered.network) not in ("posteriors", "scores"):
        gives = result_of(lowered.network)
        raise ArgumentError(f"--scores outputs class scores, and the net gives {gives}")
    chosen = "scores" if scores else average or lowered.experiment.test.average
    pipeline = inference(form, chosen, keep_map=keep_map, pool=pool, stride=stride, layer=layer)
    if keep_map and (form == "crop" or layer is not None):
        because = f"the output is that of `{layer}`" if layer else "a crop has one position"
        raise VggspecError(report(backends.NoScoreMap(because=because), path=os.fspath(spec)))
    # Dropout stays, and the average stays where it is because of it.
    left_out = AverageBeforeLinear, DropTrainingOps
    passes: list[Pass] = [each for each in pipeline if not isinstance(each, left_out)]
    if form == "dense":
        passes.append(CeilAsPadding())
    if scores:
        passes.append(DropSoftmax())
    network = run(tuple(passes), lowered.network)
    if keep_map:
        check_map(lowered.network, network)
    text = torch_source.emit(network, network.input.mean, os.path.basename(os.fspath(spec)))
    write_text(os.fspath(out), text)
    return Path(out)
