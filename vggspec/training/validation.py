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
    outputs_of: Callable[[Batch], Tensor],
    objective: Objective,
    turns: Iterable[list[Batch]],
    classes: tuple[str, ...],
    leave_out: Callable[[list[Batch]], None],
    ranks: Ranks,
    stop: Event,
) -> Validation | None:
    """Loss and errors over all ranks; None once ``stop`` is set on one of them.

    Raises:
        VggspecError: too many images are bad, or a rank is gone.
    """
    # For each class: its images, and how many of them have each kind of error.
    counts = {kind: torch.zeros(len(classes), dtype=torch.int64) for kind in objective.errors}
    images = torch.zeros(len(classes), dtype=torch.int64)
    loss = 0.0
    with torch.inference_mode():
        for batches in turns:
            leave_out(batches)
            if ranks.sum([stop.is_set()])[0]:
                return None
            for batch in batches:
                if len(batch.labels):
                    outputs = outputs_of(batch).float().cpu()
                    loss += float(objective.loss(outputs, batch))
                    images += batch.labels.bincount(minlength=len(classes))
                    for kind, wrong in objective.wrong(outputs, batch).items():
                        counts[kind] += batch.labels[wrong].bincount(minlength=len(classes))
    table = torch.stack([images, *counts.values()])
    loss, *summed = ranks.sum([loss, *table.flatten().tolist()])
    seen, *wrongs = torch.tensor(summed).round().long().reshape(table.shape).tolist()
    total = max(1, sum(seen))
    return Validation(
        loss=loss / total,
        errors={kind: sum(wrong) / total for kind, wrong in zip(counts, wrongs, strict=True)},
        class_errors={
            name: wrong / number
            for name, wrong, number in zip(classes, wrongs[0], seen, strict=True)
            if number
        },
    )
