"""The order of the images: the batch of each, and the share of it that a rank takes.

Every rank knows the whole order and takes its rows of each batch, so that the batches, and all
random choices, are the same for any number of ranks and workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Ticket(NamedTuple):
    """An image's turn."""

    epoch: int
    image: int
    row: int = 0
    """Its place in the batch of all ranks together."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one of several ranks, which are counted from 0."""

    rank: int = 0
    ranks: int = 1

    def of(self, number: int) -> slice:
        """This rank's slice of ``number`` items; the sizes of slices differ by one at most."""
        return slice(self.rank * number // self.ranks, (self.rank + 1) * number // self.ranks)


class ShuffledBatches:
    """The training images batch by batch, each once an epoch, in an order of the epoch's own.

    ``epoch`` and ``skipped``, the batches of it that were taken before, are set ahead of each
    round. The last batch may be smaller than the others, and a rank's part of it empty.
    """

    def __init__(self, num_images: int, batch: int, seed: int, share: Share | None = None) -> None:
        self.epoch = 0
        self.skipped = 0
        self._num_images = num_images
        self._batch = batch
        self._seed = seed
        self._share = share or Share()

    def __len__(self) -> int:
        return -(-self._num_images // self._batch)

    def __iter__(self) -> Iterator[list[Ticket]]:
        random = stream(self._seed, "order", Ticket(self.epoch, 0))
        order = random.permutation(self._num_images).tolist()
        for start in range(self.skipped * self._batch, self._num_images, self._batch):
            batch = order[start : start + self._batch]
            mine = self._share.of(len(batch))
            yield [
                Ticket(self.epoch, image, row)
                for row, image in enumerate(batch[mine], start=mine.start)
            ]


class BatchesInOrder:
    """The images from the first to the last, batch by batch, each batch shared out in parts."""

    def __init__(self, num_images: int, batch: int, share: Share | None = None) -> None:
        self._num_images = num_images
        self._batch = batch
        self._share = share or Share()

    def __len__(self) -> int:
        return -(-self._num_images // self._batch)

    def __iter__(self) -> Iterator[list[Ticket]]:
        for start in range(0, self._num_images, self._batch):
            batch = range(start, min(start + self._batch, self._num_images))
            mine = self._share.of(len(batch))
            yield [Ticket(0, image, row) for row, image in enumerate(batch[mine], start=mine.start)]


def stream(seed: int, purpose: str, ticket: Ticket) -> np.random.Generator:
    """A random stream of its own for each purpose, epoch and image.

    Philox counts in 256 bits; the lower half counts the numbers drawn from one stream.
    """
    key = np.array([seed, ("crops", "order", "boxes").index(purpose)], np.uint64)
    counter = np.array([0, 0, ticket.epoch, ticket.image], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
