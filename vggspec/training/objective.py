"""The objective of training: classification or localisation.

Axes: N crops, K boxes of one crop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vggspec.compiler.ir import Network
from vggspec.compiler.ops.boxes import Boxes
from vggspec.data.box_coding import RIGHT_IOU, decode, iou, overlap
from vggspec.training.batches import Batch


class Objective(Protocol):
    """A loss, and the errors that are reported."""

    @property
    def errors(self) -> tuple[str, ...]:
        """The kinds of error, the deciding one first."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The losses of all crops, added up; ``outputs`` is fp32 ``(N, channels)``."""

    def wrong(self, outputs: Tensor, batch: Batch) -> Mapping[str, Tensor]:
        """For each kind of error which crops have it, bool ``(N,)``."""


@dataclass(frozen=True, slots=True)
class Classification:
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
class Localisation:
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


def objective_of(
    network: Network, smooth: float = 0.0, weights: tuple[float, ...] | None = None
) -> Objective:
    """The objective of a net, by its last layer; ``smooth`` and ``weights`` are of classes."""
    last = network[network.outputs[0].layer]
    if isinstance(last.op, Boxes):
        return Localisation(is_shared=last.op.shared)
    return Classification(smooth, weights)
