"""The objective of training: classification, localisation, or a label for each position.

Axes: N crops, K boxes of one crop, h rows and w columns of a map.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vggspec.compiler.geometry import Number, Pair, fields
from vggspec.compiler.ir import POSTERIOR_MAP, SCORE_MAP, Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.data.box_coding import RIGHT_IOU, decode, iou, overlap
from vggspec.data.confusion import Confusion
from vggspec.data.mask import IGNORED
from vggspec.training.batches import Batch
from vggspec.training.progress import Validation
from vggspec.training.runs import MEAN_IOU


class Objective(Protocol):
    """A loss, and what is counted on validation images.

    The loss is a mean over images, or over the positions of their maps that have a label.
    """

    def number(self, batch: Batch) -> int:
        """Over how many the loss of a training batch is a mean."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The losses added up; ``outputs`` is fp32 ``(N, channels)``, or ``(N, channels, h, w)``
        of label maps.
        """

    def none(self, classes: int) -> Tensor:
        """The counts of no images."""

    def counts(self, outputs: Tensor, batch: Batch, classes: int) -> Tensor:
        """What happened, as whole numbers on the CPU, to be added up over batches and ranks."""

    def judged(self, counts: Tensor, loss: float, classes: tuple[str, ...]) -> Validation:
        """The result of all counts, and of the losses added up."""


class _ByImage:
    """Each image is right or wrong, in one way or in several."""

    errors: ClassVar[tuple[str, ...]]
    """The kinds of error, the deciding one first."""

    def number(self, batch: Batch) -> int:
        return len(batch.labels)

    def wrong(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """For each kind of error which crops have it, bool ``(N,)``."""
        raise NotImplementedError

    def none(self, classes: int) -> Tensor:
        return torch.zeros((1 + len(self.errors), classes), dtype=torch.int64)

    def counts(self, outputs: Tensor, batch: Batch, classes: int) -> Tensor:
        """For each class ``(1 + kinds, classes)``: its images, and how many of them have each kind
        of error.
        """
        wrong = self.wrong(outputs, batch)
        of = [batch.labels, *(batch.labels[wrong[kind]] for kind in self.errors)]
        return torch.stack([labels.bincount(minlength=classes) for labels in of])

    def judged(self, counts: Tensor, loss: float, classes: tuple[str, ...]) -> Validation:
        seen, *wrongs = counts.tolist()
        total = max(1, sum(seen))
        return Validation(
            loss=loss / total,
            errors={
                kind: sum(wrong) / total for kind, wrong in zip(self.errors, wrongs, strict=True)
            },
            class_errors={
                name: wrong / number
                for name, wrong, number in zip(classes, wrongs[0], seen, strict=True)
                if number
            },
        )


@dataclass(frozen=True, slots=True)
class Classification(_ByImage):
    """Multinomial logistic regression (section 3.1); top-1 and top-5 error (section 4).

    The part ``smooth`` of each label is spread over all classes (Szegedy et al. 2016, section 7).
    ``weights`` multiply the losses of the classes, in the order of their numbers.
    """

    errors: ClassVar = ("top-1", "top-5")

    smooth: float = 0.0

    weights: tuple[float, ...] | None = None

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        labels = batch.labels.to(outputs.device, non_blocking=True)
        weights = None if self.weights is None else outputs.new_tensor(self.weights)
        return nn.functional.cross_entropy(
            outputs, labels, weights, reduction="sum", label_smoothing=self.smooth
        )

    def wrong(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        likeliest = outputs.topk(min(5, outputs.shape[1])).indices == batch.labels[:, None]
        return {"top-1": ~likeliest[:, 0], "top-5": ~likeliest.any(dim=1)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation(_ByImage):
    """Half the squared Euclidean distance of the four numbers of a box (appendix A.1).

    If a net has boxes for each class, only the box of the true class counts and learns. If a crop
    has several boxes, its loss is their mean, and the net is wrong if it finds none of them.
    """

    errors: ClassVar = ("localisation",)

    is_shared: bool

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if batch.targets is None:  # a rank's part of a small batch
            return outputs.sum()
        boxes = batch.targets.boxes.to(outputs.device, non_blocking=True)
        is_there = ~boxes[..., 0].isnan()
        away = self._predicted(outputs, batch)[:, None] - boxes.nan_to_num()
        losses = away.square().sum(dim=2) / 2 * is_there
        return (losses.sum(dim=1) / is_there.sum(dim=1)).sum()

    def wrong(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """Boxes are clipped at the edge of the image: no object is beyond it."""
        assert batch.targets is not None
        whole = (0.0, 0.0, 1.0, 1.0)  # IoU is the same in the units of a window as in pixels
        predicted, true, frames = (
            decode(numbers.numpy(), whole)
            for numbers in (self._predicted(outputs, batch), *batch.targets)
        )
        found = iou(overlap(predicted, frames)[:, np.newaxis], true)
        return {"localisation": torch.from_numpy(~(found > RIGHT_IOU).any(axis=1))}

    def _predicted(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The box of the true class ``(N, 4)``."""
        if self.is_shared:
            return outputs
        labels = batch.labels.to(outputs.device, non_blocking=True)
        boxes: Tensor = outputs.reshape(len(labels), -1, 4)
        return boxes[torch.arange(len(labels), device=outputs.device), labels]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMaps:
    """Multinomial logistic regression at each position of a map (Long et al. 2015, section 3); mean
    IoU and pixel accuracy (section 5).

    A position has the label of the pixel in which it lies. Where that is ignored, or where it lies
    outside of the picture, it counts neither in the loss nor in a result.
    """

    place: Pair
    """Where the first position lies, 0 in the middle of the first pixel."""

    stride: Pair
    """Pixels from one position to the next."""

    size: tuple[int, int]
    """Rows and columns of the map of a training crop."""

    smooth: float = 0.0
    weights: tuple[float, ...] | None = None
    """Of the classes, by which the losses of positions are multiplied; None where all are 1."""

    def number(self, batch: Batch) -> int:
        return int((self.labels(batch, self.size) != IGNORED).sum())

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        if batch.masks is None:  # a rank's part of a small batch
            return outputs.sum()
        labels = self.labels(batch, (outputs.shape[2], outputs.shape[3]))
        weight = None
        if self.weights is not None:
            weight = torch.tensor(self.weights, device=outputs.device)
        # In one row: PyTorch's loss of maps adds up in another order each time on a GPU.
        return nn.functional.cross_entropy(
            outputs.movedim(1, 3).flatten(0, 2),
            labels.to(outputs.device, non_blocking=True).flatten().long(),
            weight=weight,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.smooth,
        )

    def none(self, classes: int) -> Tensor:
        return torch.zeros((classes, classes), dtype=torch.int64)

    def counts(self, outputs: Tensor, batch: Batch, classes: int) -> Tensor:
        """Positions ``(classes, classes)`` by their label and by the class that the net names."""
        labels = self.labels(batch, (outputs.shape[2], outputs.shape[3])).flatten()
        named = outputs.argmax(dim=1).cpu().flatten()
        is_labelled = labels != IGNORED
        pairs = labels[is_labelled].long() * classes + named[is_labelled]
        return pairs.bincount(minlength=classes**2).reshape(classes, classes)

    def judged(self, counts: Tensor, loss: float, classes: tuple[str, ...]) -> Validation:
        found = Confusion(counts.numpy())
        ious = zip(classes, found.ious.tolist(), strict=True)
        return Validation(
            loss=loss / max(1, found.total),
            errors={},
            class_errors={},
            scores={MEAN_IOU: found.mean_iou, "pixel accuracy": found.pixel_accuracy},
            class_scores={name: iou for name, iou in ious if not math.isnan(iou)},
        )

    def labels(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        """The labels ``(N, rows, columns)`` of the positions of maps of that size, uint8."""
        if batch.masks is None:
            return torch.empty((0, *size), dtype=torch.uint8)
        labels = batch.masks
        for axis in (0, 1):
            sides = labels.shape[axis + 1]
            pixels = pixels_of(self.place[axis], self.stride[axis], size[axis])
            is_inside = (pixels >= 0) & (pixels < sides)
            labels = labels.index_select(axis + 1, pixels.clamp(0, sides - 1))
            if not is_inside.all():
                labels.index_fill_(axis + 1, (~is_inside).nonzero().flatten(), IGNORED)
        return labels


def pixels_of(place: Number, stride: Number, number: int) -> Tensor:
    """The rows or columns of pixels in which positions lie, ``(number,)``; of two that are equally
    near, the latter.
    """
    half = Fraction(1, 2)
    found = (math.floor(place + half + stride * i) for i in range(number))
    return torch.tensor(list(found), dtype=torch.int64)


def objective_of(
    network: Network, smooth: float = 0.0, weights: tuple[float, ...] | None = None
) -> Objective:
    """The objective of a net by its output; ``smooth`` and ``weights`` are of classes."""
    last = network[network.outputs[0].layer]
    if isinstance(last.op, Boxes):
        return Localisation(is_shared=last.op.shared)
    if network.outputs[0].name in (SCORE_MAP, POSTERIOR_MAP):
        seen = network.once(fields)[last.name]
        return LabelMaps(
            place=seen.place,
            stride=seen.stride,
            size=last.type.size,
            smooth=smooth,
            weights=weights,
        )
    return Classification(smooth, weights)
