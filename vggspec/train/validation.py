"""How well a net does on the validation images: loss, top-1 and top-5 error.

Source: Simonyan & Zisserman 2015, sections 3.2 and 4. Every rank looks at its part; counts are
whole numbers, so the errors are the same for any number of ranks.
"""

from collections.abc import Callable, Iterable
from threading import Event

import torch
from torch import Tensor, nn

from vggspec.compiler.backends.torch_module import SpecModule, emit
from vggspec.compiler.ir import Network
from vggspec.compiler.passes import DropSoftmax, inference
from vggspec.compiler.passes import run as apply_passes
from vggspec.train.batches import Batch
from vggspec.train.progress import Validation
from vggspec.train.ranks import Ranks


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
    scores_of: Callable[[Batch], Tensor],
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
    # For each class: images, those not recognised, those not among the five likeliest.
    counts = torch.zeros(3, len(classes), dtype=torch.int64)
    loss = 0.0
    with torch.inference_mode():
        for batches in turns:
            leave_out(batches)
            if ranks.sum([stop.is_set()])[0]:
                return None
            for batch in batches:
                if len(batch.labels):
                    scores = scores_of(batch).float().cpu()
                    loss += _count(scores, batch.labels, counts)
    loss, *summed = ranks.sum([loss, *counts.flatten().tolist()])
    images, top1, top5 = torch.tensor(summed).round().long().reshape(3, -1).tolist()
    total = max(1, sum(images))
    return Validation(
        loss=loss / total,
        top1_error=sum(top1) / total,
        top5_error=sum(top5) / total,
        class_errors={
            name: wrong / number
            for name, wrong, number in zip(classes, top1, images, strict=True)
            if number
        },
    )


def _count(scores: Tensor, labels: Tensor, counts: Tensor) -> float:
    """Add to the counts of each class; the losses, added up."""
    number = counts.shape[1]
    likeliest = scores.topk(min(5, number)).indices == labels[:, None]
    wrong = ~likeliest[:, 0], ~likeliest.any(dim=1)
    for row, chosen in zip(counts, (labels, *(labels[w] for w in wrong)), strict=True):
        row += chosen.bincount(minlength=number)
    return float(nn.functional.cross_entropy(scores, labels, reduction="sum"))
