"""A task resumes where it was interrupted, and its watcher receives true figures."""

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vggspec.base.diagnostic import ArgumentError, MissingLibraryError
from vggspec.base.fields import Fields
from vggspec.base.watcher import Progress, Watcher
from vggspec.studies.tasks.work import Effort, cached_journal, work_through


@dataclass(frozen=True)
class Square:
    index: int
    square: int


@dataclass(frozen=True)
class Squares:
    """A task of numbers."""

    number: int = 10
    threads: int | None = None

    @property
    def indices(self) -> NDArray[np.int64]:
        return np.arange(self.number)

    def with_threads(self, threads: int) -> "Squares":
        return Squares(self.number, threads)

    def digest(self) -> str:
        return f"squares-{self.number}"

    def identity(self) -> dict[str, str]:
        return {"number": str(self.number)}

    def results(self, indices: Iterable[int]) -> Generator[Square, None, None]:
        for index in indices:
            yield Square(index, index**2)

    def as_data(self, result: Square) -> dict[str, Any]:
        return asdict(result)

    def from_data(self, data: Fields) -> Square:
        return Square(data.integer("index", 0), data.integer("square", 0))


class Heard(Watcher):
    def __init__(self) -> None:
        self.now: list[Progress] = []
        self.notes: list[str] = []

    def progress(self, now: Progress) -> None:
        self.now.append(now)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def go_through(effort: Effort, *, stop_at: int | None = None) -> tuple[list[int], Heard]:
    """The squares, and what was heard; interrupted at a number."""
    task, heard, found = Squares(), Heard(), list[int]()

    def take(result: Square) -> None:
        found.append(result.square)
        if result.index == stop_at:
            raise KeyboardInterrupt

    with cached_journal(task, effort, heard) as kept:
        try:
            work_through(
                task,
                take,
                effort=effort,
                kept=kept,
                doing="squaring",
                details=lambda: (f"sum {sum(found)}",),
                watch=heard,
            )
        except KeyboardInterrupt:
            assert stop_at is not None
        else:
            assert kept is not None
            kept.clear()
    return found, heard


SQUARES = [i**2 for i in range(10)]


@pytest.mark.parametrize("procs", [1, 2])
def test_every_result_is_taken_and_counted(tmp_path: Path, procs: int) -> None:
    found, heard = go_through(Effort(procs=procs))
    assert sorted(found) == SQUARES
    assert [now.done for now in heard.now] == list(range(11))
    assert {(now.doing, now.total, now.unit, now.before) for now in heard.now} == {
        ("squaring", 10, "images", 0)
    }
    assert heard.notes == []
    assert list((tmp_path / "cache").rglob("*.jsonl")) == []


def test_a_resumed_task_starts_from_true_figures() -> None:
    _, heard = go_through(Effort(), stop_at=3)
    assert (heard.now[-1].done, heard.now[-1].can_resume) == (4, True)
    found, heard = go_through(Effort(resume=True))
    assert found == SQUARES
    assert heard.notes == ["4 of 10 images were done before"]
    first = heard.now[0]
    assert (first.done, first.before, first.details) == (4, 4, (f"sum {0 + 1 + 4 + 9}",))
    assert {now.before for now in heard.now} == {4}
    assert heard.now[-1].done == 10


def test_an_interrupted_task_that_is_not_resumed_is_discarded_with_a_note() -> None:
    go_through(Effort(), stop_at=3)
    found, heard = go_through(Effort())
    assert found == SQUARES
    assert heard.now[0].done == 0
    assert heard.notes == ["an interrupted run is discarded; --resume would have resumed it"]
    assert go_through(Effort(resume=True))[1].notes == ["none of 10 images were done before"]


def test_without_a_cache_folder_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vggspec").write_text("in the way")
    task, heard, found = Squares(), Heard(), list[int]()
    with cached_journal(task, Effort(), heard) as kept:
        assert kept is None
        work_through(
            task,
            lambda one: found.append(one.square),
            effort=Effort(),
            kept=kept,
            doing="squaring",
            watch=heard,
        )
    assert found == SQUARES
    assert not any(now.can_resume for now in heard.now)
    (note,) = heard.notes
    assert note.startswith("results are not kept for --resume: ")


def test_an_effort_is_checked() -> None:
    assert Effort.of() == Effort()
    assert Effort.of(procs=3, threads=2) == Effort(procs=3, threads=2)
    with pytest.raises(ArgumentError, match="exclude each other"):
        Effort.of(procs=2, gpus=2)
    with pytest.raises(ArgumentError, match="`cpu`"):
        Effort.of(gpus=1, device="cpu")
    for wrong in ({"procs": 0}, {"gpus": -1}, {"threads": 0}, {"batch_pixels": 0}):
        with pytest.raises(ArgumentError, match=r"at least 1|1 to 1024"):
            Effort.of(**wrong)  # type: ignore[arg-type]
    with pytest.raises(MissingLibraryError, match="999 GPUs asked for"):
        Effort.of(gpus=999)
