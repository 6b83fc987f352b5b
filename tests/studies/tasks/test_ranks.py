"""Ranks that share a task have the results of one process, each of them, whatever happens to some.

Here ranks are threads that meet in a store in memory; ``tests/cli/test_eval.py`` starts processes.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from tests.refusals import refused, told
from tests.studies.tasks.test_work import Heard, Square, Squares
from vggspec.base.diagnostic import VggspecError
from vggspec.base.watcher import SILENT
from vggspec.studies.tasks import board, work
from vggspec.studies.tasks import ranks as module
from vggspec.studies.tasks.journal import Journal, journal
from vggspec.studies.tasks.ranks import Ranks
from vggspec.studies.tasks.work import Effort, cached_journal, work_through
from vggspec.training.ranks import joined

IMAGES = 40
WHOLE = [number**2 for number in range(IMAGES)]


class Killed(BaseException):
    """Ends a thread as SIGKILL ends a process: it tells nobody."""


@dataclass(frozen=True)
class Falling(Squares):
    """Squares whose computation ends at a number."""

    at: int = -1
    ending: type[BaseException] = Killed
    computed: list[int] = field(default_factory=list)

    def with_threads(self, threads: int) -> "Falling":
        return Falling(self.number, threads, self.at, self.ending, self.computed)

    def results(self, indices: Iterable[int]) -> Generator[Square, None, None]:
        for index in indices:
            if index == self.at:
                raise self.ending
            self.computed.append(index)
            yield Square(index, index**2)


@dataclass
class Outcome:
    """What a rank has in the end."""

    squares: list[int] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    error: BaseException | None = None
    heard: Heard = field(default_factory=Heard)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.4)
    monkeypatch.setattr(module, "MEETING_S", 5.0)
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    monkeypatch.setattr(board, "FLUSH_S", 0.0)  # what a rank has computed, it has sent
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def go_through(
    size: int,
    tmp_path: Path,
    *,
    falling: dict[int, Falling] | None = None,
    resume: bool = False,
    shared_disk: bool = True,
    in_order: bool = False,
) -> list[Outcome]:
    """The outcome of each of ``size`` ranks."""
    store, outcomes = HashStore(), [Outcome() for _ in range(size)]

    def run(rank: int) -> None:
        mine = outcomes[rank]
        task = (falling or {}).get(rank, Falling(IMAGES, computed=[]))
        ranks = Ranks(rank, size, lambda: store)
        effort = Effort(ranks=ranks, resume=resume)
        folder = tmp_path / "vggspec" / ("" if shared_disk else str(rank))
        try:
            with kept_in(folder, task, effort, mine.heard) as kept:
                work_through(
                    task,
                    lambda one: mine.squares.append(one.square),
                    effort=effort,
                    kept=kept,
                    doing="squaring",
                    in_order=in_order,
                    watch=mine.heard,
                )
                if kept is not None:
                    kept.clear()
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            mine.error = error
        if isinstance(mine.error, Killed):
            ranks._is_over.set()  # its heart stops, and that is all
        else:
            ranks.leave("it ended")
        mine.computed = task.computed

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return outcomes


@contextlib.contextmanager
def kept_in(
    folder: Path, task: Squares, effort: Effort, heard: Heard
) -> Iterator[Journal[Square] | None]:
    """The journal of a rank in a folder of its machine."""
    assert effort.ranks is not None
    of_rank = f".rank-{effort.ranks.rank}" if effort.ranks.rank else ""
    with journal(task, folder / "evals" / f"{task.digest()}{of_rank}.jsonl") as kept:
        yield kept


def alone(**options: bool) -> tuple[list[int], list[str]]:
    """The squares that this process alone finds, and what it notes."""
    task, squares, heard = Squares(IMAGES), list[int](), Heard()
    effort = Effort(**options)
    with cached_journal(task, effort, heard) as kept:
        work_through(
            task,
            lambda one: squares.append(one.square),
            effort=effort,
            kept=kept,
            doing="squaring",
            watch=heard,
        )
    return squares, heard.notes


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_rank_has_all_results_and_computes_its_part(
    size: int, in_order: bool, tmp_path: Path
) -> None:
    found = go_through(size, tmp_path, in_order=in_order)
    for one in found:
        assert one.error is None, told(one.error)
        assert (one.squares if in_order else sorted(one.squares)) == WHOLE
    parts = [one.computed for one in found]
    assert parts == [list(range(rank, IMAGES, size)) for rank in range(size)]
    assert found[0].heard.now[-1].done == IMAGES
    assert all(one.heard.now == [] for one in found[1:])
    assert list(tmp_path.rglob("*.jsonl")) == []


@pytest.mark.parametrize(("again", "shared_disk"), [(2, True), (3, False)])
def test_what_a_lost_rank_lacks_is_computed_by_resume(
    again: int, shared_disk: bool, tmp_path: Path
) -> None:
    """On the machines that are left, or on all: only those images, and each once."""
    found = go_through(
        3, tmp_path, falling={2: Falling(IMAGES, at=20, computed=[])}, shared_disk=shared_disk
    )
    lost = set(range(20, IMAGES, 3))
    assert isinstance(found[0].error, VggspecError)
    assert f"{len(lost)} of {IMAGES} images lack; lost: rank 2 (silent" in told(found[0].error)
    assert "no rank 0 any more" in told(found[1].error)
    assert found[0].computed == list(range(0, IMAGES, 3))
    assert found[1].computed == list(range(1, IMAGES, 3))

    found = go_through(again, tmp_path, resume=True, shared_disk=shared_disk)
    for one in found:
        assert one.error is None, told(one.error)
        assert sorted(one.squares) == WHOLE
    assert sorted(i for one in found for i in one.computed) == sorted(lost)


def test_one_process_resumes_what_ranks_left(tmp_path: Path) -> None:
    go_through(3, tmp_path, falling={1: Falling(IMAGES, at=19, computed=[])})
    squares, notes = alone(resume=True)
    assert sorted(squares) == WHOLE
    assert notes == ["33 of 40 images were done before"]


@pytest.mark.parametrize("shared_disk", [True, False])
def test_without_rank_0_the_others_finish_their_parts(shared_disk: bool, tmp_path: Path) -> None:
    found = go_through(
        2, tmp_path, falling={0: Falling(IMAGES, at=4, computed=[])}, shared_disk=shared_disk
    )
    assert "rank 1 has no rank 0 any more: silent" in told(found[1].error)
    assert found[1].computed == list(range(1, IMAGES, 2))
    found = go_through(2, tmp_path, resume=True, shared_disk=shared_disk)
    assert [sorted(one.squares) for one in found] == [WHOLE, WHOLE]
    assert sorted(i for one in found for i in one.computed) == list(range(4, IMAGES, 2))


def test_results_in_order_end_at_the_first_that_lacks(tmp_path: Path) -> None:
    found = go_through(2, tmp_path, falling={1: Falling(IMAGES, at=21, computed=[])}, in_order=True)
    assert found[0].squares == WHOLE[:21]
    assert "19 of 40 images lack; lost: rank 1" in told(found[0].error)


def test_a_failure_reaches_all_ranks_at_once(tmp_path: Path) -> None:
    failing = Falling(IMAGES, at=11, ending=KeyboardInterrupt, computed=[])
    found = go_through(2, tmp_path, falling={1: failing})
    assert "lost: rank 1 (it was interrupted)" in told(found[0].error)
    failing = Falling(IMAGES, at=10, ending=KeyboardInterrupt, computed=[])
    found = go_through(2, tmp_path, falling={0: failing})
    assert "rank 1 has no rank 0 any more: it was interrupted" in told(found[1].error)


def test_ranks_with_other_images_are_refused(tmp_path: Path) -> None:
    found = go_through(2, tmp_path, falling={1: Falling(IMAGES + 1, computed=[])})
    assert "rank 1 has another task than rank 0: number, selection" in told(found[0].error)
    assert isinstance(found[1].error, VggspecError)
    assert found[0].squares == []


def test_several_tasks_follow_one_another(tmp_path: Path) -> None:
    store = HashStore()
    found: dict[int, list[int]] = {0: [], 1: []}

    def run(rank: int) -> None:
        ranks = Ranks(rank, 2, lambda: store)
        for number in (3, 4, 5):
            work_through(
                Squares(number),
                lambda one: found[rank].append(one.square),
                effort=Effort(ranks=ranks),
                kept=None,
                doing="squaring",
                in_order=True,
                watch=SILENT,
            )

    threads = [threading.Thread(target=run, args=(rank,)) for rank in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert found[0] == found[1] == [i**2 for number in (3, 4, 5) for i in range(number)]


WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "WORLD_SIZE is '0'": lambda patch: patch.setenv("WORLD_SIZE", "0"),
    "RANK is '2' and must be from 0 to 1": lambda patch: patch.setenv("RANK", "2"),
    "MASTER_ADDR is not set": lambda patch: patch.delenv("MASTER_ADDR"),
    "MASTER_PORT is 'x'": lambda patch: patch.setenv("MASTER_PORT", "x"),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_launcher_without_sense_is_refused(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    WRONG[why](monkeypatch)
    with refused(why):
        Effort.of()
    with refused(why), joined():  # training's
        pass


def test_one_rank_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Effort.of() == Effort()


@pytest.mark.parametrize(
    ("local_rank", "procs", "visible", "first"),
    [(0, 1, None, 0), (1, 1, None, 1), (1, 2, None, 2), (3, 2, None, 0), (1, 1, "5", 0)],
)
def test_ranks_of_a_machine_take_one_gpu_after_the_other(
    local_rank: int,
    procs: int,
    visible: str | None,
    first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unless each sees only its own."""
    machine = SimpleNamespace(gpus=("a", "b", "c", "d"))
    monkeypatch.setattr(work, "this_machine", lambda: machine)
    monkeypatch.delenv(work.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(work.VISIBLE, visible)
    ranks = Ranks(local_rank, 4, HashStore, local_rank=local_rank, local_size=4)
    effort = Effort(ranks=ranks, procs=procs)
    assert work._first_gpu(effort) == first
    assert work._first_gpu(replace(effort, device="cpu")) == 0
    ranks.leave("it ended")
