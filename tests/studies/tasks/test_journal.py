"""What was found is found again, but for what was torn, damaged or another task's."""

import json
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.refusals import refused
from tests.runtime.bundles import make
from tests.studies.evaluation.pictures import write_pictures
from vggspec.base.catalogue.evaluating import JournalInUse
from vggspec.base.diagnostic import VggspecError
from vggspec.base.locking import lock
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.answers import Answering, Result
from vggspec.studies.evaluation.question import ask
from vggspec.studies.tasks import journal as journals
from vggspec.studies.tasks.journal import MAX_LINE_BYTES, Journal, evaluation_path, journal

RESULTS = [
    Result(
        index=i,
        ranks=(i % 3,),
        top=tuple((k, 1 / (3 + 7 * i + k)) for k in range(5)),  # no short decimals
        truth=0.1 + 0.2 * i,
    )
    for i in (0, 2, 3)
] + [Result(index=1, unread="it is “damaged”\n")]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Answering:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net = open_bundle(make(tmp_path / "net").path)
    data = open_labelled(write_pictures(tmp_path / "data"))
    return Answering(ask([net], [net.manifest.test], data)[0])


def path_of(task: Answering) -> Path:
    path = evaluation_path(task.digest())
    assert path is not None
    return path


def write(task: Answering, results: list[Result]) -> None:
    with journal(task, path_of(task)) as kept:
        kept.clear()
        for result in results:
            kept.add(result)


def signed(line: bytes) -> bytes:
    """A line as the journal has it, with its checksum."""
    return b"%08x %s\n" % (zlib.crc32(line), line)


def taken_up(kept: Journal[Result], most: int = 99) -> list[Result]:
    results: list[Result] = []

    def accept(result: Result) -> bool:
        results.append(result)
        return len(results) <= most

    kept.take_up(accept)
    return results[:most]


def complaint(task: Answering) -> str | None:
    with journal(task, path_of(task)) as kept:
        return kept.take_up(lambda _: True)


def found(task: Answering) -> list[Result]:
    with journal(task, path_of(task)) as kept:
        return taken_up(kept)


def test_results_come_back_to_the_last_digit(task: Answering, tmp_path: Path) -> None:
    write(task, RESULTS)
    name = f"{task.question.digest()}.jsonl"
    assert (tmp_path / "cache" / "vggspec" / "evals" / name).is_file()
    assert found(task) == RESULTS
    with journal(task, path_of(task)) as kept:
        taken_up(kept)
        kept.add(Result(index=9, unread="x"))
    assert [one.index for one in found(task)] == [0, 2, 3, 1, 9]


def test_what_is_of_no_use_is_cut_off_with_what_follows(task: Answering) -> None:
    write(task, RESULTS)
    with journal(task, path_of(task)) as kept:
        assert taken_up(kept, most=2) == RESULTS[:2]
        kept.add(RESULTS[3])
    assert found(task) == [*RESULTS[:2], RESULTS[3]]


def test_it_is_gone_when_all_is_told(task: Answering) -> None:
    with journal(task, path_of(task)) as kept:
        assert kept.is_empty
        kept.add(RESULTS[0])
        assert not kept.is_empty
        kept.clear()
    assert not path_of(task).exists()
    assert found(task) == []
    assert not path_of(task).exists()


def test_other_questions_have_others(task: Answering) -> None:
    write(task, RESULTS)
    assert found(Answering(replace(task.question, enlarge=True))) == []
    assert found(task.with_threads(1)) == RESULTS


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_line_is_dropped_and_written_again(task: Answering, cut: int) -> None:
    write(task, RESULTS)
    path = path_of(task)
    path.write_bytes(path.read_bytes()[:-cut])
    with journal(task, path_of(task)) as kept:
        assert taken_up(kept) == RESULTS[:3]
        kept.add(RESULTS[3])
    assert found(task) == RESULTS


GOOD: dict[str, Any] = {
    "index": 5,
    "ranks": [4],
    "top": [[0, 0.5], [1, 0.2], [2, 0.1], [3, 0.1], [4, 0.1]],
    "truth": 0.1,
    "unread": None,
}


def other(**changes: Any) -> bytes:
    return signed(json.dumps(GOOD | changes).encode())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"\n", "checksum"),
        (b"null\n", "checksum"),
        (b"\xff\xfe\n", "checksum"),
        (b"x" * (MAX_LINE_BYTES + 9) + b"\n", "checksum"),
        (json.dumps(GOOD).encode() + b"\n", "an earlier version"),
        (signed(b"null"), "not a JSON object"),
        (signed(b"[" * 100_000), "nested too deeply"),
        (signed(b'{"index": 5}'), "ranks"),
        (other(ranks=[]), "other settings"),
        (other(ranks=[0, 0]), "other settings"),
        (other(ranks=[float("-inf")]), "ranks"),
        (other(ranks=[5]), "ranks"),
        (other(ranks=[-1]), "ranks"),
        (other(top=[]), "other settings"),
        (other(top=[[2**63, 0.5], *GOOD["top"][1:]]), "top"),
        (other(top=[[5, 0.5], *GOOD["top"][1:]]), "class"),
        (other(top=[[1, 0.5], *GOOD["top"][1:]]), "other settings"),
        (other(top=[[0, 10**400], *GOOD["top"][1:]]), "top"),
        (other(truth="0.1"), "truth"),
        (other(index=500), "not one of the task's"),
        (other(index=2), "twice"),
        (other(unread="and yet it has ranks"), "other settings"),
    ],
    ids=lambda value: str(value[:40]),
)
def test_from_a_damaged_line_on_it_is_done_again(task: Answering, line: bytes, why: str) -> None:
    write(task, RESULTS)
    path = path_of(task)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:2], line, *lines[2:]])
    path.write_bytes(damaged)
    assert found(task) == RESULTS[:2]
    assert path.read_bytes() == b"".join(lines[:2])
    path.write_bytes(damaged)
    assert (complaint(task) or "").startswith("line 3: ")
    path.write_bytes(damaged)
    assert why in (complaint(task) or "")


def test_what_is_sound_is_not_complained_of(task: Answering) -> None:
    """The line that the others differ from."""
    write(task, RESULTS)
    path = path_of(task)
    path.write_bytes(path.read_bytes() + other())
    assert complaint(task) is None
    assert len(found(task)) == 5


def test_every_changed_digit_is_noticed(task: Answering) -> None:
    write(task, RESULTS)
    path = path_of(task)
    data = path.read_bytes()
    digits = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    for at in digits[::7]:
        changed = bytearray(data)
        changed[at] = ord("0") + (changed[at] - ord("0") + 1) % 10
        path.write_bytes(changed)
        assert found(task) == RESULTS[: data[:at].count(b"\n")]
        path.write_bytes(changed)
        assert "checksum" in (complaint(task) or "")


def test_a_torn_end_is_no_complaint(task: Answering) -> None:
    write(task, RESULTS)
    path = path_of(task)
    data = path.read_bytes()
    for cut in range(1, 90, 4):
        path.write_bytes(data[:-cut])
        assert complaint(task) is None


@pytest.mark.skipif(sys.platform == "win32", reason="locks")
def test_two_do_not_write_one_file(task: Answering) -> None:
    write(task, RESULTS)
    with journal(task, path_of(task)):
        with pytest.raises(VggspecError) as caught, journal(task, path_of(task)):
            pass
        assert isinstance(caught.value.reports[0].what, JournalInUse)
    assert found(task) == RESULTS


@pytest.mark.skipif(sys.platform == "win32", reason="locks")
def test_one_that_is_held_for_a_moment_is_waited_for(task: Answering) -> None:
    """As rank 0 holds those of other ranks, to remove them."""
    path = path_of(task)
    path.parent.mkdir(parents=True)
    with path.open("ab") as other:
        lock(other.fileno())
        threading.Timer(0.1, other.close).start()
        with journal(task, path) as kept:
            assert other.closed
            kept.add(RESULTS[0])


def test_a_file_that_another_process_removed_before_the_lock_is_created_again(
    task: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is written down would be gone, and nothing would keep a third process out."""
    import fcntl

    real, path = fcntl.flock, path_of(task)

    def late(file: Any, how: int) -> None:
        monkeypatch.undo()
        path.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with journal(task, path) as kept:
        kept.add(RESULTS[0])
        with pytest.raises(VggspecError), journal(task, path):
            pass
    assert path.read_bytes().count(b"\n") == 1


def test_without_a_home_there_is_none(task: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "cache_folder", lambda: None)
    assert evaluation_path(task.digest()) is None


def test_what_cannot_be_written_is_a_report(task: Answering, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vggspec").write_text("in the way")
    with refused("cannot be written"), journal(task, path_of(task)):
        pass
