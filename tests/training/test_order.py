"""Batches: each image once an epoch, shared out among ranks without gap or overlap."""

from collections import Counter

import numpy as np
import pytest

from vggspec.training.order import (
    PURPOSES,
    BatchesInOrder,
    Share,
    ShuffledBatches,
    Ticket,
    stream,
)


def test_an_epoch_has_each_image_once_and_its_own_order() -> None:
    order = ShuffledBatches(10, 4, seed=0)
    epochs = []
    for order.epoch in (1, 2):
        batches = list(order)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert {ticket.epoch for batch in batches for ticket in batch} == {order.epoch}
        epochs.append([ticket.image for batch in batches for ticket in batch])
        assert sorted(epochs[-1]) == list(range(10))
    assert len(order) == 3
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_parts_of_ranks_make_the_batches_of_one(ranks: int) -> None:
    whole = list(ShuffledBatches(10, 4, seed=3))
    parts = [list(ShuffledBatches(10, 4, 3, Share(rank, ranks))) for rank in range(ranks)]
    joined = [[ticket for part in parts for ticket in part[i]] for i in range(3)]
    assert joined == whole
    assert [ticket.row for ticket in whole[0]] == [0, 1, 2, 3]
    for batches in zip(*parts, strict=True):
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
    in_order = [list(BatchesInOrder(10, 4, Share(rank, ranks))) for rank in range(ranks)]
    images = [ticket.image for i in range(3) for part in in_order for ticket in part[i]]
    assert images == list(range(10))


def test_an_epoch_can_be_taken_up_in_its_middle() -> None:
    order = ShuffledBatches(10, 4, seed=0)
    whole = list(order)
    order.skipped = 2
    assert list(order) == whole[2:]
    order.skipped = 3
    assert list(order) == []


def test_a_round_in_order_counts_rows_in_each_batch() -> None:
    assert list(BatchesInOrder(3, 2)) == [[Ticket(0, 0, 0), Ticket(0, 1, 1)], [Ticket(0, 2, 0)]]


LABELS = np.repeat(np.arange(3, dtype=np.int32), [40, 10, 3])


def test_balanced_epochs_draw_each_class_equally_often() -> None:
    order = ShuffledBatches(53, 8, seed=4, balanced=LABELS)
    more: Counter[int] = Counter()
    epochs = []
    for order.epoch in range(1, 31):
        tickets = [ticket for batch in order for ticket in batch]
        assert [len(batch) for batch in order] == [8] * 6 + [5]
        images = Counter(ticket.image for ticket in tickets)
        classes = Counter(int(LABELS[ticket.image]) for ticket in tickets)
        assert sorted(classes.values()) == [17, 18, 18]
        more.update(label for label, number in classes.items() if number == 18)
        for label in range(3):  # no image of a class comes twice more often than another
            times = [images[image] for image in np.flatnonzero(label == LABELS).tolist()]
            assert max(times) - min(times) <= 1
        turns = Counter((ticket.image, ticket.turn) for ticket in tickets)
        assert set(turns.values()) == {1}  # no crop comes twice
        assert all(turns[image, turn] for image in images for turn in range(images[image]))
        epochs.append(tuple(ticket.image for ticket in tickets))
    assert len(set(epochs)) == 30
    assert min(more.values()) > 10


@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_balanced_and_followed_parts_make_the_batches_of_one(ranks: int) -> None:
    """Each part begins with the image before it, the first one with the last of the batch."""
    (whole, *_), *_ = [list(ShuffledBatches(53, 8, 4, balanced=LABELS))]
    parts = [
        ShuffledBatches(53, 8, 4, Share(rank, ranks), balanced=LABELS, follow=True)
        for rank in range(ranks)
    ]
    joined = []
    for part in [next(iter(order)) for order in parts]:
        if part:
            before, *mine = part
            assert before == whole[mine[0].row - 1]
            joined += mine
    assert joined == whole
    skipping = ShuffledBatches(53, 8, 4, balanced=LABELS, follow=True)
    everything = list(skipping)
    skipping.skipped = 3
    assert list(skipping) == everything[3:]


def test_a_stream_is_that_of_numpys_philox() -> None:
    key, counter = (
        np.array([7, PURPOSES.index("boxes")], np.uint64),
        np.array([0, 1, 2, 3], np.uint64),
    )
    theirs = np.random.Generator(np.random.Philox(key=key, counter=counter))
    ours = stream(7, "boxes", Ticket(2, 3, turn=1))
    np.testing.assert_array_equal(ours.random(9), theirs.random(9))
    np.testing.assert_array_equal(ours.normal(size=9), theirs.normal(size=9))
