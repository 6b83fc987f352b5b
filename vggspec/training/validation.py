"""Evaluates a net on the validation images: its loss and errors.

Source: Simonyan & Zisserman 2015, sections 3.2 and 4. Every rank evaluates its share; counts are
whole numbers, so the errors are the same for any number of ranks.
"""

from collections.abc import Callable, Iterable
from threading import Event

import torch
from torch import Tensor

from vggspec.compiler.backends.torch.module import SpecModule, emit
from vggspec.compiler.ir import Network
from vggspec.compiler.passes import DropSoftmax, inference
from vggspec.compiler.passes import run as apply_passes
from vggspec.training.batches import Batch
from vggspec.training.objective import Objective
from vggspec.training.progress import Validation
from vggspec.training.ranks import Ranks


def dense_form(network: Network, model: SpecModule) -> SpecModule:
    """The net for whole images: the same weights, in the same memory, applied everywhere."""
    dense = emit(apply_passes((DropSoftmax(), *inference("dense")), network)).eval()
    theirs = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, parameter in dense.named_parameters():
        parameter.requires_grad_(False).data = theirs[name].data.view(parameter.shape)
    for name, _ in dense.named_buffers():
        if name in theirs:
            owner, _, last = name.rpartition(".")
            setattr(dense.get_submodule(owner), last, theirs[name])
    return dense


def validate(
    outputs_of: Callable[[Batch], Iterable[tuple[Batch, Tensor]]],
    objective: Objective,
    turns: Iterable[list[Batch]],
    classes: tuple[str, ...],
    leave_out: Callable[[list[Batch]], None],
    ranks: Ranks,
    stop: Event,
) -> Validation | None:
    """Loss and errors over all ranks; None once ``stop`` is set on one of them.

    ``outputs_of`` gives the outputs of a batch, perhaps part by part.

    Raises:
        VggspecError: too many images are bad, or a rank is gone.
    """
    counts = objective.none(len(classes))
    loss = 0.0
    with torch.inference_mode():
        for batches in turns:
            leave_out(batches)
            if ranks.sum([stop.is_set()])[0]:
                return None
            for batch in batches:
                if len(batch.labels):
                    for part, outputs in outputs_of(batch):
                        loss += float(objective.loss(outputs, part))
                        counts += objective.counts(outputs, part, len(classes))
    loss, *summed = ranks.sum([loss, *counts.flatten().tolist()])
    total = torch.tensor(summed).round().long().reshape(counts.shape)
    return objective.judged(total, loss, classes)
