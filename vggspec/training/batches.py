"""Batches of crops, from the data set to the device.

Crops are transferred as bytes, a quarter of their size in fp32, and normalised on the net's device.

Axes: N images, H rows, W columns, C channels.
"""

import contextlib
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from vggspec.base.optional import silence_pillow
from vggspec.compiler.ir import ImageInput
from vggspec.data.mask import Mask
from vggspec.training.augment import CentreCrops, Crop, Target, TrainCrops, Unread, WholeImages
from vggspec.training.box_crops import CentreBoxCrops, TrainBoxCrops
from vggspec.training.mask_crops import CentreMaskCrops, TrainMaskCrops, WholeMasks
from vggspec.training.order import BatchesInOrder, ShuffledBatches, Ticket

#: The time that a worker may take for a batch; a network disk may stall for a while.
PATIENCE_S = 1800

#: Values that a CPU normalises at once: they stay in its cache.
CACHED_VALUES = 1 << 18


class Targets(NamedTuple):
    """The targets of a net of boxes, as ``augment.Target``."""

    boxes: Tensor
    """float32 ``(N, K, 4)``, NaN where a crop has fewer than others."""

    frames: Tensor
    """float32 ``(N, 4)``"""

    def part(self, rows: slice) -> "Targets":
        """The targets of some of the crops."""
        return Targets(self.boxes[rows], self.frames[rows])


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
    """Images that could not be read."""

    targets: Targets | None = None
    masks: Tensor | None = None
    """uint8 ``(N, H, W)``: the label of each pixel, for a net of label maps."""

    others: "Batch | None" = None
    """For each image the one that it is mixed with."""

    def part(self, rows: slice) -> "Batch":
        """Some of the crops."""
        return Batch(
            self.pixels[rows],
            self.shifts[rows],
            self.labels[rows],
            self.rows[rows],
            [],
            self.targets and self.targets.part(rows),
            None if self.masks is None else self.masks[rows],
            self.others and self.others.part(rows),
        )


class Normalise(nn.Module):
    """Makes a batch the net's input: ``(x + shift - mean) * scale / std``, ``(N, C, H, W)``.

    ``layout`` is the memory format: contiguous, or channels last.
    """

    def __init__(
        self,
        input: ImageInput,
        mean: tuple[float, ...],
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.gain: Tensor
        gain = [input.scale / std for std in input.std or (1.0,) * input.channels]
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("gain", torch.tensor(gain))
        self._input = input
        self._layout = layout

    def forward(self, batch: Batch) -> Tensor:
        """The normalised images."""
        place = self.mean.device
        if not batch.labels.numel():  # a rank's part of a small batch
            image = self._input
            return torch.empty((0, image.channels, image.height, image.width), device=place)
        offset = (batch.shifts.to(place, non_blocking=True) - self.mean)[:, :, None, None]
        gain = self.gain[:, None, None]
        planes = batch.pixels.to(place, non_blocking=True).permute(0, 3, 1, 2)
        if place.type != "cpu":
            planes = planes.contiguous(memory_format=self._layout)  # still bytes: a quarter to move
            return planes.float().add_(offset).mul_(gain)
        found = torch.empty_like(planes, dtype=torch.float32, memory_format=self._layout)
        at_once = max(1, CACHED_VALUES // planes[0].numel())
        parts = (torch.split(tensor, at_once) for tensor in (found, planes, offset))
        for images, pixels, shifts in zip(*parts, strict=True):
            images.copy_(pixels).add_(shifts).mul_(gain)
        return found


class Loader:
    """What each turn of an order gives, in a batch for each size of images, at least one. Images
    that ``are_mixed`` are of one size, and each turn begins with the image before the first one.

    Its workers live until it is closed. If they lived until the interpreter exits, PyTorch would
    report their termination as an error.
    """

    def __init__(
        self,
        crops: TrainCrops
        | CentreCrops
        | WholeImages
        | TrainBoxCrops
        | CentreBoxCrops
        | TrainMaskCrops
        | CentreMaskCrops
        | WholeMasks,
        order: ShuffledBatches | BatchesInOrder,
        num_workers: int,
        device: torch.device,
        *,
        are_mixed: bool = False,
    ) -> None:
        self._loader = DataLoader(
            cast("Dataset[Crop | Unread]", crops),
            num_workers=num_workers,
            collate_fn=collate_to_mix if are_mixed else collate_by_size,
            pin_memory=device.type == "cuda",
            persistent_workers=num_workers > 0,
            worker_init_fn=_begin,
            timeout=PATIENCE_S if num_workers else 0,
            # It seeds the workers, which draw nothing; the global one is dropout's.
            generator=torch.Generator(),
            batch_sampler=cast("Sampler[list[Ticket]]", order),
        )

    def __iter__(self) -> Iterator[list[Batch]]:
        return cast("Iterator[list[Batch]]", iter(self._loader))

    def close(self) -> None:
        """End the workers, including those that do not answer."""
        iterator: Any = self._loader._iterator  # noqa: SLF001 (PyTorch has no other way)
        workers = getattr(iterator, "_workers", ())
        if workers:
            with contextlib.suppress(RuntimeError):  # one was lost meanwhile
                iterator._shutdown_workers()  # noqa: SLF001
        for worker in workers:
            if worker.is_alive():
                worker.kill()
            worker.join()


@contextlib.contextmanager
def children_may_end() -> Iterator[None]:
    """During the block the end of a worker raises nothing: PyTorch's handler of SIGCHLD raises for
    each of several, wherever the program is, also while the first one is reported.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def lost_worker(error: Exception) -> str | None:
    """How a worker was lost, in words, from PyTorch's message, since PyTorch has no exception types
    for it.
    """
    text = str(error)
    if text.startswith("DataLoader timed out"):
        return f"has given nothing for {PATIENCE_S // 60} minutes"
    if text.startswith("DataLoader worker"):
        pid = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", text)
        by = re.search(r"by signal: (\w[\w ]*)", text)
        which = f" (process {pid[1]})" if pid else ""
        return f"was ended by a signal: {by[1]}{which}" if by else f"has ended{which}"
    if text.startswith("Too many open files"):
        return "cannot be reached: too many files are open, see `ulimit -n`"
    if text.startswith("Caught ") and "in DataLoader worker process" in text:
        if isinstance(error, MemoryError):
            return "has run out of memory"
        if "/torch_" in text or "shared memory" in text:
            return "finds no room in shared memory"
    return None


def collate_by_size(found: list[Crop | Unread]) -> list[Batch]:
    """A batch for each size; the first one also has the images that could not be read."""
    sizes: dict[tuple[int, ...], list[Crop | Unread]] = {}
    for one in found:
        if isinstance(one, Crop):
            sizes.setdefault(one.pixels.shape, []).append(one)
    unread = [one for one in found if isinstance(one, Unread)]
    first, *rest = list(sizes.values()) or [[]]
    return [collate([*first, *unread]), *map(collate, rest)]


def collate_to_mix(found: list[Crop | Unread]) -> list[Batch]:
    """A batch of all but the first, each with the image before it; where that could not be read,
    with itself.
    """
    others: list[Crop | Unread] = [
        before if isinstance(before, Crop) else one
        for before, one in pairwise(found)
        if isinstance(one, Crop)
    ]
    batch = collate(found[1:])
    return [batch._replace(others=collate(others))]


def collate(found: list[Crop | Unread]) -> Batch:
    """Crops as one batch, and the images that could not be read."""
    crops = [one for one in found if isinstance(one, Crop)]
    unread = [one for one in found if isinstance(one, Unread)]
    if not crops:
        none = torch.empty(0, dtype=torch.int64)
        return Batch(none.byte(), none.float(), none, none, unread)
    return Batch(
        torch.from_numpy(np.stack([crop.pixels for crop in crops])),
        torch.from_numpy(np.stack([crop.shift for crop in crops])),
        torch.tensor([crop.label for crop in crops]),
        torch.tensor([crop.row for crop in crops]),
        unread,
        _targets([crop.target for crop in crops if crop.target is not None]),
        _masks([crop.mask for crop in crops if crop.mask is not None]),
    )


def _masks(found: list[Mask]) -> Tensor | None:
    return torch.from_numpy(np.stack(found)) if found else None


def _targets(found: list[Target]) -> Targets | None:
    if not found:
        return None
    boxes = np.full((len(found), max(len(one.boxes) for one in found), 4), np.nan, np.float32)
    for one, row in zip(found, boxes, strict=True):
        row[: len(one.boxes)] = one.boxes
    frames = np.stack([one.frame for one in found])
    return Targets(torch.from_numpy(boxes), torch.from_numpy(frames))


def _begin(worker: int) -> None:
    """Ignore signals in the workers, which end with the training process."""
    del worker
    silence_pillow()
    gc.freeze()  # what was loaded before stays: to look it through takes a tenth of the time
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # launchers and terminals signal the whole group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = _unless_alone


def _unless_alone(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Report an error in a worker's thread, unless the training process has ended."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
