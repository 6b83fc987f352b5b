"""Messages between the ranks of a task: bytes under names, in a store that one process serves.

The store is PyTorch's, ``torch.distributed.TCPStore``, which a launcher provides. Its calls can
wait for minutes where a machine has vanished, so they are made in a thread, and given up.

Each direction is a stream of frames, cut into pieces; a writer that is far ahead of its readers
waits. Nothing is unpickled.
"""

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from vggspec.base.wording import foreign

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""The largest value; a ``TCPStore`` takes eight times that."""

AHEAD_BYTES = 32 << 20
"""How far a writer may be ahead of its slowest reader."""

FLUSH_S = 0.5  # how old what is not sent yet may be
LOOK_S = 0.05

_LENGTH = struct.Struct("<I")


class UnreachableError(Exception):
    """The store does not answer any more; the message says why."""


class Board:
    """A store, whose calls end within ``patience_s``."""

    def __init__(
        self, connect: "Callable[[], Store]", *, connect_s: float, patience_s: float
    ) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[Any], Any], Future[Any]]] = SimpleQueue()
        self._why: str | None = None
        self._patience_s = patience_s
        self._prefix = ""
        threading.Thread(
            target=_serve, args=(connect, self._jobs), name="ranks", daemon=True
        ).start()
        self._do(lambda _: None, connect_s)

    def below(self, prefix: str) -> "Board":
        """The same store; all names begin with ``prefix``."""
        board = object.__new__(Board)
        board.__dict__.update(self.__dict__, _prefix=f"{self._prefix}{prefix}/")
        return board

    def set(self, name: str, value: bytes) -> None:
        """Store a value.

        Raises:
            UnreachableError: the store does not answer.
        """
        # It takes bytes, and its declaration says str.
        self._do(lambda store: store.set(self._prefix + name, value))  # type: ignore[arg-type]

    def get(self, name: str) -> bytes | None:
        """The value of a name; None if there is none.

        Raises:
            UnreachableError: the store does not answer.
        """
        key = self._prefix + name
        found: bytes | None = self._do(lambda s: s.get(key) if s.check([key]) else None)
        return found

    def remove(self, name: str) -> None:
        """Remove a name.

        Raises:
            UnreachableError: the store does not answer.
        """
        self._do(lambda store: store.delete_key(self._prefix + name))

    def _do(self, call: "Callable[[Store], T]", patience_s: float | None = None) -> T:
        if self._why is not None:
            raise UnreachableError(self._why)
        answer: Future[T] = Future()
        self._jobs.put((call, answer))
        try:
            return answer.result(patience_s or self._patience_s)
        except (RuntimeError, ValueError, OSError) as error:
            first = str(error).strip().partition("\n")[0]
            is_slow = isinstance(error, TimeoutError) and not first
            self._why = "no answer" if is_slow else foreign(first) or type(error).__name__
            raise UnreachableError(self._why) from error


def _serve(connect: "Callable[[], Store]", jobs: Any) -> None:
    store, failure = None, None
    try:
        store = connect()
    except Exception as error:  # noqa: BLE001 (whatever it is, the caller gets it)
        failure = error
    while True:
        call, answer = jobs.get()
        try:
            if failure is not None:
                raise failure
            answer.set_result(call(store))
        except Exception as error:  # noqa: BLE001
            answer.set_exception(error)


@dataclass(slots=True)
class Writer:
    """The end of a stream that frames are written to."""

    board: Board
    readers: Sequence[int]
    pause: Callable[[], None]
    """Is called while readers are waited for; raises to give up."""

    is_gone: Callable[[int], bool]
    """Whether a reader will read no more."""

    _buffer: bytearray
    _unread: deque[int] = field(default_factory=deque)
    """The sizes of the pieces that are not read by all."""

    _number: int = 0
    _flushed_at: float = 0.0

    @classmethod
    def to(
        cls,
        board: Board,
        readers: Sequence[int],
        pause: Callable[[], None],
        is_gone: Callable[[int], bool] = lambda _: False,
    ) -> "Writer":
        """A stream to some ranks."""
        return cls(board, readers, pause, is_gone, bytearray())

    def add(self, frame: bytes) -> None:
        """Write a frame; it may wait here until enough has come together.

        Raises:
            UnreachableError: the store does not answer.
        """
        self._buffer += _LENGTH.pack(len(frame)) + frame
        is_old = time.monotonic() - self._flushed_at > FLUSH_S
        if is_old or len(self._buffer) >= PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits here.

        Raises:
            UnreachableError: the store does not answer.
        """
        while self._buffer:
            while sum(self._unread) > AHEAD_BYTES and self._remove_read():
                self.pause()
            piece = bytes(self._buffer[:PIECE_BYTES])
            self.board.set(str(self._number), piece)
            del self._buffer[:PIECE_BYTES]
            self._unread.append(len(piece))
            self._number += 1
        self._flushed_at = time.monotonic()

    def end(self) -> None:
        """Send the rest, and that it is the rest; wait until all is read.

        Raises:
            UnreachableError: the store does not answer.
        """
        self.flush()
        self.board.set("end", b"%d" % self._number)
        while self._remove_read() or not all(map(self._has_ended, self.readers)):
            self.pause()

    def _has_ended(self, reader: int) -> bool:
        return self.is_gone(reader) or self.board.get(f"ended-{reader}") is not None

    def _remove_read(self) -> int:
        """Remove the pieces that all readers have read; how many are left."""
        numbers = [
            int(self.board.get(f"read-{each}") or b"0")
            for each in self.readers
            if not self.is_gone(each)
        ]
        read = min(numbers, default=self._number)
        while self._number - len(self._unread) < read:
            self.board.remove(str(self._number - len(self._unread)))
            self._unread.popleft()
        return len(self._unread)


@dataclass(slots=True)
class Reader:
    """The end of a stream that one of its readers reads from."""

    board: Board
    reader: int
    is_ended: bool = False
    """Whether all of it has been read."""

    _buffer: bytes = b""
    _number: int = 0

    def frames(self) -> Iterator[bytes]:
        """The frames that have come.

        Raises:
            UnreachableError: the store does not answer.
        """
        ends = self.board.get("end")  # first: what comes after it has been seen is read
        while (piece := self.board.get(str(self._number))) is not None:
            self._number += 1
            self.board.set(f"read-{self.reader}", b"%d" % self._number)
            self._buffer += piece
            yield from self._whole()
        if ends is not None and self._number >= int(ends) and not self.is_ended:
            self.is_ended = True
            self.board.set(f"ended-{self.reader}", b"")

    def _whole(self) -> Iterator[bytes]:
        at = 0
        while at + _LENGTH.size <= len(self._buffer):
            (length,) = _LENGTH.unpack_from(self._buffer, at)
            end = at + _LENGTH.size + length
            if end > len(self._buffer):
                break
            yield self._buffer[at + _LENGTH.size : end]
            at = end
        self._buffer = self._buffer[at:]


def told(board: Board, name: str, text: str) -> None:
    """Store a text, if the store can be reached."""
    with suppress(UnreachableError):
        board.set(name, text.encode(errors="replace"))
