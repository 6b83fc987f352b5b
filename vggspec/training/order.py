"""The order of the images: the batch of each, and the share of it that a rank takes.

Every rank knows the whole order and takes its rows of each batch, so that the batches, and all
random choices, are the same for any number of ranks and workers.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray

#: What is drawn, each from streams of its own: a purpose more changes no other draw.
PURPOSES = ("crops", "order", "boxes", "areas", "randaugment", "erase", "mixing")


class Ticket(NamedTuple):
    """An image's turn."""

    epoch: int
    image: int
    row: int = 0
    """Its place in the batch of all ranks together."""

    turn: int = 0
    """How often it came before in this epoch."""


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

    With ``balanced``, the number of each image's class, an epoch has as many images, of each class
    equally many, up to one. With ``follow`` each rank's part begins with the image before it in the
    batch, the last one before the first: each image then has one that comes before it.

    ``epoch`` and ``skipped``, the batches of it that were taken before, are set ahead of each
    round. The last batch may be smaller than the others, and a rank's part of it empty.
    """

    def __init__(
        self,
        num_images: int,
        batch: int,
        seed: int,
        share: Share | None = None,
        *,
        balanced: NDArray[np.int32] | None = None,
        follow: bool = False,
    ) -> None:
        self.epoch = 0
        self.skipped = 0
        self._num_images = num_images
        self._batch = batch
        self._seed = seed
        self._share = share or Share()
        self._classes = balanced
        self._follow = follow

    def __len__(self) -> int:
        return -(-self._num_images // self._batch)

    def __iter__(self) -> Iterator[list[Ticket]]:
        order = self._order()
        for start in range(self.skipped * self._batch, self._num_images, self._batch):
            batch = order[start : start + self._batch]
            mine = range(*self._share.of(len(batch)).indices(len(batch)))
            rows = [mine[0] - 1, *mine] if self._follow and mine else mine
            yield [
                Ticket(self.epoch, image, row % len(batch), turn)
                for row in rows
                for image, turn in (batch[row],)
            ]

    def _order(self) -> list[tuple[int, int]]:
        """The images of the epoch, each with how often it came before."""
        random = stream(self._seed, "order", Ticket(self.epoch, 0))
        if self._classes is None:
            return [(image, 0) for image in random.permutation(self._num_images).tolist()]
        images = np.concatenate(list(_balanced(self._classes, random)))
        turns: Counter[int] = Counter()
        order = []
        for image in random.permutation(images).tolist():
            order.append((image, turns[image]))
            turns[image] += 1
        return order


def _balanced(labels: NDArray[np.int32], random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """As many images as there are, of each class equally many, up to one; those of a class differ
    in how often they come by one at most.
    """
    classes = np.unique(labels)
    number, more = divmod(len(labels), len(classes))
    with_one_more = set(random.permutation(len(classes))[:more].tolist())
    for place, label in enumerate(classes):
        images = np.flatnonzero(labels == label)
        rounds, rest = divmod(number + (place in with_one_more), len(images))
        yield np.tile(images, rounds)
        yield random.permutation(images)[:rest]


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

    Philox counts in 256 bits; the lowest quarter counts the numbers drawn from one stream.
    """
    key = np.array([seed, PURPOSES.index(purpose)], np.uint64)
    counter = np.array([0, ticket.turn, ticket.epoch, ticket.image], np.uint64)
    philox = np.random.Philox(_Key(key), counter=counter)  # type: ignore[arg-type]
    return np.random.Generator(philox)


class _Key(ISeedSequence):
    """A key of Philox as it is. With ``key=`` it asks the system for a random one first, for
    nothing, which takes three quarters of the time of a stream.
    """

    def __init__(self, key: NDArray[np.uint64]) -> None:
        self._key = key

    def generate_state(self, n_words: int, dtype: object = np.uint64) -> NDArray[np.uint64]:
        """The two words that are asked for."""
        assert (n_words, dtype) == (len(self._key), np.uint64)
        return self._key
