"""A task's images, shared among ranks: processes of one machine or of many, with a shared disk or
without.

A launcher starts them all with the same command and says where they meet. Rank 0 deals out the
images and collects the results; the others keep theirs in journals of their own too. In the end
every rank has all results, so every rank returns the same.

A rank that is lost holds nobody up: the others finish their parts, and rank 0 says what lacks.
"""

import atexit
import json
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.ranks import CannotMeet, WrongLauncher
from vggspec.base.catalogue.sharing import LostFirstRank, LostParts, OtherTask
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.fields import BadFieldError, parse_object
from vggspec.base.launched import launched
from vggspec.base.optional import require
from vggspec.base.wording import count
from vggspec.studies.tasks.board import LOOK_S, Board, Reader, UnreachableError, Writer, told
from vggspec.studies.tasks.task import R, Task

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

MEETING_S = 300.0
"""How long ranks wait for each other at the start."""

SILENCE_S = 60.0
"""A rank that shows no life for this long is lost."""

BEAT_S = 2.0

NOBODY = -1


class Ranks:
    """This process among those that share the images of tasks, one task after the other."""

    def __init__(
        self,
        rank: int,
        size: int,
        connect: "Callable[[], Store]",
        *,
        local_rank: int = 0,
        local_size: int = 1,
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.board = Board(connect, connect_s=MEETING_S, patience_s=SILENCE_S)
        self._seen: dict[int, tuple[bytes | None, float]] = {}
        self._tasks = 0
        self._is_over = threading.Event()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    @property
    def is_first(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def next_task(self) -> Board:
        """The board of the next task, the same on all ranks."""
        self._tasks += 1
        return self.board.below(f"task-{self._tasks}")

    def leave(self, why: str) -> None:
        """Say that this rank ends, unless it has."""
        if not self._is_over.is_set():
            self._is_over.set()
            told(self.board, f"gone-{self.rank}", why)

    def lost(self, rank: int) -> str | None:
        """Why a rank is lost; None if it is alive, or has not come yet.

        Raises:
            UnreachableError: the store does not answer.
        """
        gone = self.board.get(f"gone-{rank}")
        if gone is not None:
            return gone.decode(errors="replace")
        now, beat = time.monotonic(), self.board.get(f"alive-{rank}")
        last, since = self._seen.setdefault(rank, (beat, now))
        if beat != last:
            self._seen[rank] = beat, now
        elif now - since > (MEETING_S if beat is None else SILENCE_S):
            return "it never came" if beat is None else f"silent for {now - since:.0f} s"
        return None

    def _beat(self) -> None:
        number = 0
        while not self._is_over.is_set():
            try:
                self.board.set(f"alive-{self.rank}", b"%d" % number)
            except UnreachableError:
                return
            number += 1
            self._is_over.wait(BEAT_S)


_JOINED: dict[int, Ranks] = {}


def joined() -> Ranks | None:
    """The ranks that a launcher has started this process as one of; None if it is the only one.

    Raises:
        VggspecError: they cannot meet.
        MissingLibraryError: PyTorch, by which they meet, is not installed.
    """
    here = os.getpid()
    if here in _JOINED:
        return _JOINED[here]
    try:
        mine = launched()
    except ValueError as error:
        raise VggspecError(report(WrongLauncher(reason=str(error)))) from error
    if mine is None:
        return None
    # Its C++ part would print a trace for each lost connection, which is reported here.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    require("torch", "sharing images among ranks")

    def connect() -> "Store":
        from torch.distributed.rendezvous import rendezvous

        store: Store = next(rendezvous("env://", timeout=timedelta(seconds=MEETING_S)))[0]
        return store

    try:
        ranks = Ranks(
            mine.rank,
            mine.size,
            connect,
            local_rank=mine.local_rank,
            local_size=mine.local_size,
        )
    except UnreachableError as error:
        raise _cannot_meet(str(error)) from error
    atexit.register(ranks.leave, "it ended")
    _JOINED[here] = ranks
    return ranks


def _cannot_meet(reason: str) -> VggspecError:
    where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    return VggspecError(report(CannotMeet(where=where, reason=reason)))


Results = Callable[[Sequence[int]], Generator[R, None, None]]


@dataclass(slots=True)
class Sharing(Generic[R]):
    """One task among ranks, as one of them sees it."""

    ranks: Ranks
    task: Task[R]
    compute: Results[R]
    """Computes results here."""

    as_message: Callable[[R], dict[str, Any]]
    in_order: bool
    board: Board = field(init=False)
    _all: list[bytes] = field(default_factory=list)
    """On rank 0, each result for the others."""

    _looked_at: float = 0.0

    def __post_init__(self) -> None:
        self.board = self.ranks.next_task()

    # Rank 0.

    def results(self, known: Iterable[R], note: Callable[[str], None]) -> Generator[R, None, None]:
        """On rank 0: the results beyond those that are ``known`` here, of all ranks.

        Raises:
            VggspecError: a rank has another task, or parts lack, as ranks were lost.
        """
        self._all = [self._frame(each) for each in known]
        try:
            with self._ending():
                yield from self._collected(self._dealt(note))
        except UnreachableError as error:  # this machine served the store, or was cut off
            raise self._lacks(dict.fromkeys(self._others(), str(error))) from error

    def give_back(self) -> None:
        """On rank 0: all results go to the others, which return what this rank returns."""
        try:
            writer = Writer.to(self.board.below("all"), self._others(), self._rest, self._is_gone)
            for frame in self._all:
                writer.add(frame)
            writer.end()
            self.board.set("over", b"")
        except UnreachableError:
            return  # nobody is left who could want them

    def _dealt(self, note: Callable[[str], None]) -> NDArray[np.int32]:
        """For each image the rank that delivers its result; ``NOBODY`` for what is known."""
        mine, total = self._identity(), len(self.task.indices)
        dealt = np.zeros(total, np.int32)
        dealt[self._positions(self._indices(self._all))] = NOBODY
        present = [0]
        for rank in self._others():
            hello = self._awaited(f"hello-{rank}", rank)
            if hello is None:
                note(f"rank {rank} is lost ({self.ranks.lost(rank)}); the others share its images")
                continue
            identity, _, held = hello.partition(b"\n")
            self._check_same(rank, mine, json.loads(identity))
            bits = np.unpackbits(np.frombuffer(zlib.decompress(held), np.uint8), count=total)
            dealt[(dealt == 0) & (bits == 1)] = rank
            present.append(rank)
        held_by_others = dealt > 0
        left = np.flatnonzero(dealt == 0)
        dealt[left] = np.array(present, np.int32)[np.arange(len(left)) % len(present)]
        number = int(held_by_others.sum())
        if number:
            note(f"{count(number, 'image')} more had been done by other ranks")
        self.board.set("dealt", zlib.compress(dealt.tobytes()))
        return dealt

    def _check_same(self, rank: int, mine: Mapping[str, str], other: Mapping[str, str]) -> None:
        differs = [name for name in mine if other.get(name) != mine[name]]
        if differs:
            self.board.set("over", b"rank %d has another task" % rank)
            raise VggspecError(report(OtherTask(rank=rank, differs=tuple(differs))))

    def _collected(self, dealt: NDArray[np.int32]) -> Iterator[R]:
        parts = {
            rank: deque(self.task.indices[dealt == rank].tolist())
            for rank in np.unique(dealt).tolist()
            if rank != NOBODY
        }
        mine = list(parts.pop(0, ()))
        readers = {rank: Reader(self.board.below(f"part-{rank}"), 0) for rank in parts}
        with closing(self.compute(mine)) as own:
            if self.in_order:
                yield from self._in_turn(dealt[dealt != NOBODY].tolist(), own, readers, parts)
            else:
                for result in own:
                    yield self._noted(result)
                    if self._is_time():
                        yield from map(self._noted, self._come(readers, parts))
        lost: dict[int, str] = {}
        while readers:
            yield from map(self._noted, self._come(readers, parts))
            for rank in list(readers):
                if readers[rank].is_ended:
                    del readers[rank]
                elif (why := self.ranks.lost(rank)) is not None:
                    last = self._come({rank: readers[rank]}, parts)
                    yield from map(self._noted, last)
                    if not readers.pop(rank).is_ended:
                        lost[rank] = why
            if readers:
                time.sleep(LOOK_S)
        if any(parts.values()):
            for rank, part in parts.items():
                if part:
                    lost.setdefault(rank, "it ended early")
            raise self._lacks(lost)

    def _come(self, readers: Mapping[int, Reader], parts: Mapping[int, deque[int]]) -> Iterator[R]:
        """The results that have come from other ranks."""
        for rank, reader in readers.items():
            for frame in reader.frames():
                yield self._received(rank, frame, parts[rank])

    def _in_turn(
        self,
        turns: Sequence[int],
        own: Iterator[R],
        readers: Mapping[int, Reader],
        parts: Mapping[int, deque[int]],
    ) -> Iterator[R]:
        waiting: dict[int, deque[R]] = {rank: deque() for rank in readers}
        for rank in turns:
            if rank == 0:
                yield self._noted(next(own))
                continue
            while not waiting[rank]:
                waiting[rank].extend(self._come({rank: readers[rank]}, parts))
                if waiting[rank]:
                    break
                why = self.ranks.lost(rank)
                if why is not None:
                    raise self._lacks({rank: why})
                time.sleep(LOOK_S)
            yield self._noted(waiting[rank].popleft())

    def _received(self, rank: int, frame: bytes, part: deque[int]) -> R:
        try:
            result = self.task.from_data(parse_object(frame))
        except BadFieldError as error:
            raise VggspecError(report(OtherTask(rank=rank, differs=(str(error),)))) from error
        try:
            part.remove(result.index)
        except ValueError as error:
            raise VggspecError(report(OtherTask(rank=rank, differs=("images",)))) from error
        return result

    def _noted(self, result: R) -> R:
        self._all.append(self._frame(result))
        return result

    def _lacks(self, lost: Mapping[int, str]) -> VggspecError:
        total = len(self.task.indices)
        left = total - len(self._all)
        return VggspecError(report(LostParts(lost=tuple(lost.items()), left=left, total=total)))

    # The other ranks.

    def work(self, known: Mapping[int, R], keep: Callable[[R], None]) -> Generator[R, None, None]:
        """On another rank: compute its part, ``keep`` each result, and return all of all ranks.

        Raises:
            VggspecError: rank 0 is lost or has failed. Unless results are required in order, the
                part is computed first.
        """
        with self._ending():
            part = None
            try:
                bits = np.zeros(len(self.task.indices), bool)
                bits[self._positions(known)] = True
                held = zlib.compress(np.packbits(bits).tobytes())
                identity = json.dumps(self._identity()).encode()
                self.board.set(f"hello-{self.ranks.rank}", identity + b"\n" + held)
                dealt = self._awaited("dealt", 0)
                if dealt is None:
                    raise self._without_first(self._first_ended() or "it ended")
                of = np.frombuffer(zlib.decompress(dealt), np.int32)
                part = self.task.indices[of == self.ranks.rank].tolist()
            except UnreachableError as error:
                raise self._without_first(str(error)) from error
            self._deliver(part, known, keep)
            yield from self._returned()

    def _deliver(
        self, part: Sequence[int], known: Mapping[int, R], keep: Callable[[R], None]
    ) -> None:
        board = self.board.below(f"part-{self.ranks.rank}")
        writer = Writer.to(board, [0], self._wait_for_first)
        why: str | None = None

        def send(result: R) -> None:
            nonlocal why
            if why is not None:
                return
            try:
                writer.add(self._as_frame(result))
                if self._is_time():
                    self._check_first()
            except (UnreachableError, VggspecError) as error:
                if self.in_order or self._is_refused():
                    raise
                why = str(error)

        try:
            for index in part:
                if index in known:
                    send(known[index])
            with closing(self.compute([i for i in part if i not in known])) as own:
                for result in own:
                    keep(result)
                    send(result)
            if why is None:
                writer.end()
        except UnreachableError as error:
            raise self._without_first(str(error)) from error
        if why is not None:
            raise self._without_first(why)

    def _returned(self) -> Iterator[R]:
        reader = Reader(self.board.below("all"), self.ranks.rank)
        try:
            while not reader.is_ended:
                for frame in reader.frames():
                    yield self.task.from_data(parse_object(frame))
                if not reader.is_ended:
                    self._wait_for_first()
        except UnreachableError as error:
            raise self._without_first(str(error)) from error

    def _wait_for_first(self) -> None:
        self._check_first()
        time.sleep(LOOK_S)

    def _check_first(self) -> None:
        """Check that rank 0 goes on.

        Raises:
            VggspecError: it does not.
        """
        why = self._first_ended()
        if why is not None:
            raise self._without_first(why)

    def _first_ended(self) -> str | None:
        """Why rank 0 does not go on; None if it does."""
        why = self.ranks.lost(0)
        over = self.board.get("over")  # second: it is set before rank 0 ends
        return over.decode(errors="replace") if over else why

    def _is_refused(self) -> bool:
        """Whether rank 0 has said that it does not want the results."""
        try:
            return bool(self.board.get("over"))
        except UnreachableError:
            return False

    def _without_first(self, why: str) -> VggspecError:
        return VggspecError(report(LostFirstRank(rank=self.ranks.rank, reason=why)))

    # All.

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Tell the others if this rank fails."""
        try:
            yield
        except VggspecError as error:
            self._fail(error.reports[0].what.title())
            raise
        except MissingLibraryError as error:
            self._fail(str(error))
            raise
        except (KeyboardInterrupt, SystemExit):
            self._fail("it was interrupted")
            raise
        except GeneratorExit:
            self._fail("it stopped")
            raise

    def _fail(self, why: str) -> None:
        if self.ranks.is_first:
            told(self.board, "over", why)
        else:
            self.ranks.leave(why)

    def _awaited(self, name: str, rank: int) -> bytes | None:
        """A value that a rank sets; None if that rank is lost."""
        while (found := self.board.get(name)) is None:
            if self.ranks.lost(rank) is not None or (rank == 0 and self.board.get("over")):
                return self.board.get(name)
            time.sleep(LOOK_S)
        return found

    def _identity(self) -> dict[str, str]:
        indices = np.ascontiguousarray(self.task.indices).tobytes()
        return {**self.task.identity(), "selection": f"{zlib.crc32(indices):08x}"}

    def _others(self) -> range:
        return range(1, self.ranks.size)

    def _is_gone(self, rank: int) -> bool:
        return self.ranks.lost(rank) is not None

    def _rest(self) -> None:
        time.sleep(LOOK_S)

    def _positions(self, indices: Iterable[int]) -> NDArray[np.intp]:
        return np.searchsorted(self.task.indices, np.fromiter(indices, np.int64))

    def _indices(self, frames: Sequence[bytes]) -> list[int]:
        return [json.loads(each)["index"] for each in frames]

    def _frame(self, result: R) -> bytes:
        """A result for the other ranks' return value."""
        return json.dumps(self.task.as_data(result)).encode()

    def _as_frame(self, result: R) -> bytes:
        return json.dumps(self.as_message(result)).encode()

    def _is_time(self) -> bool:
        """Whether it is time to look at the store again."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_S * 4:
            return False
        self._looked_at = now
        return True
