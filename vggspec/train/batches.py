"""Batches of crops, from the data set to the device.

Crops travel as bytes, a quarter of what they are as numbers, and are normalised where the net is.

Axes: N images, H rows, W columns, C channels.
"""

import os
import signal
from collections.abc import Iterable
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from vggspec.compiler.ir import ImageInput
from vggspec.train.augment import CentreCrops, Crop, TrainCrops, Unread
from vggspec.train.order import BatchesInOrder, ShuffledBatches, Ticket

MAX_WORKERS = 16


class Batch(NamedTuple):
    """Crops as decoded."""

    pixels: Tensor
    """uint8 ``(N, H, W, C)``"""

    shifts: Tensor
    """float32 ``(N, C)``, in units of 0 to 255."""

    labels: Tensor
    """int64 ``(N,)``"""

    rows: Tensor
    """int64 ``(N,)``: their places in the batch of all ranks together."""

    unread: list[Unread]
    """Images that have no place in the batch."""


class Normalise(nn.Module):
    """Makes a batch the net's input: ``(x + shift - mean) * scale / std``, ``(N, C, H, W)``."""

    def __init__(self, input: ImageInput, mean: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.gain: Tensor
        gain = [input.scale / std for std in input.std or (1.0,) * input.channels]
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("gain", torch.tensor(gain))

    def forward(self, batch: Batch) -> Tensor:
        """The normalised images."""
        place = self.mean.device
        offset = batch.shifts.to(place, non_blocking=True) - self.mean
        pixels = batch.pixels.to(place, non_blocking=True).float()
        return ((pixels + offset[:, None, None, :]) * self.gain).permute(0, 3, 1, 2)


def loader(
    crops: TrainCrops | CentreCrops,
    order: ShuffledBatches | BatchesInOrder,
    num_workers: int,
    device: torch.device,
) -> Iterable[Batch]:
    """Batches in ``order``."""
    return cast(
        "Iterable[Batch]",
        DataLoader(
            cast("Dataset[Crop | Unread]", crops),
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            persistent_workers=num_workers > 0,
            worker_init_fn=_leave_signals,
            # It seeds the workers, which draw nothing; the global one is dropout's.
            generator=torch.Generator(),
            batch_sampler=cast("Sampler[list[Ticket]]", order),
        ),
    )


def collate(found: list[Crop | Unread]) -> Batch:
    """Crops as one batch, what could not be read beside it."""
    crops = [one for one in found if isinstance(one, Crop)]
    unread = [one for one in found if isinstance(one, Unread)]
    if not crops:
        empty = torch.empty(0)
        return Batch(empty, empty, empty, empty, unread)
    return Batch(
        torch.from_numpy(np.stack([crop.pixels for crop in crops])),
        torch.from_numpy(np.stack([crop.shift for crop in crops])),
        torch.tensor([crop.label for crop in crops]),
        torch.tensor([crop.row for crop in crops]),
        unread,
    )


def usual_workers(device: torch.device) -> int:
    """How many processes decode: as many as there are cores, or half where the net needs them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min((cores or 1) if device.type == "cuda" else max(1, (cores or 1) // 2), MAX_WORKERS)


def _leave_signals(worker: int) -> None:
    """Ctrl-C goes to all processes of a terminal; the training process ends its workers."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
