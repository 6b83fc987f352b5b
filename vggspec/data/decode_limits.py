"""How much memory decoded images may take, one alone and those of all threads together."""

import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator

from vggspec.base.processors import processors

MAX_BYTES = 1 << 29
"""What decoding an image may take: half a gigabyte. A photo of 76 megapixels takes as much."""

BYTES_A_PROCESSOR = 64 << 20
"""Where there are many processors, their threads may take this much each, all of it together."""

SMALL_BYTES = 8 << 20
"""An image that takes no more, of a megapixel, does not ask for room."""


class Room:
    """Bytes that threads share: a thread that finds too few left waits for its turn.

    If nothing else is taken, any size is granted, so that the largest image can be decoded too. A
    thread that already has memory gets more at once; otherwise two such threads could deadlock.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self.forget()

    def forget(self) -> None:
        """Start again with nothing taken, in a forked process."""
        self._changed = threading.Condition()
        self._taken = 0
        self._by_thread: Counter[int] = Counter()
        self._waiting: deque[object] = deque()

    @contextlib.contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Hold ``size`` bytes while the block lasts."""
        if size <= SMALL_BYTES:
            yield
            return
        me, changed = threading.get_ident(), self._changed
        with changed:
            if not self._by_thread[me]:
                self._wait_for(size)
            self._taken += size
            self._by_thread[me] += 1
        try:
            yield
        finally:
            if changed is self._changed:  # this is no fork within the block
                with changed:
                    self._give_back(me, size)

    def _give_back(self, thread: int, size: int) -> None:
        self._taken -= size
        self._by_thread[thread] -= 1
        if not self._by_thread[thread]:
            del self._by_thread[thread]
        self._changed.notify_all()

    def _wait_for(self, size: int) -> None:
        turn = object()
        self._waiting.append(turn)
        try:
            # In order of arrival: otherwise small requests could starve a large one.
            self._changed.wait_for(
                lambda: (
                    self._waiting[0] is turn
                    and (not self._taken or self._taken + size <= self._total)
                )
            )
        finally:
            self._waiting.remove(turn)
            self._changed.notify_all()


room = Room(max(MAX_BYTES, BYTES_A_PROCESSOR * processors()))
"""That of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=room.forget)
