"""What was found is found again, but for what was torn, damaged or another question's."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.runtime.bundles import make
from tests.runtime.evaluation.pictures import write_pictures
from vggspec.bundle import open_bundle
from vggspec.catalogue.evaluating import EvaluationInUse
from vggspec.data.labelled import open_labelled
from vggspec.diagnostic import VggspecError
from vggspec.runtime.evaluation import journal as journals
from vggspec.runtime.evaluation.answers import Result
from vggspec.runtime.evaluation.journal import journal
from vggspec.runtime.evaluation.question import Question, ask

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
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    net = open_bundle(make(tmp_path / "net").path)
    data = open_labelled(write_pictures(tmp_path / "data"))
    return ask([net], [net.manifest.test], data)[0]


def path_of(question: Question, tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vggspec" / "evals" / f"{question.digest()}.jsonl"


def write(question: Question, results: list[Result]) -> None:
    with journal(question, resume=False) as kept:
        assert kept is not None
        assert kept.found == []
        for result in results:
            kept.add(result)


def found(question: Question) -> list[Result]:
    with journal(question, resume=True) as kept:
        assert kept is not None
        return kept.found


def test_results_come_back_to_the_last_digit(question: Question, tmp_path: Path) -> None:
    write(question, RESULTS)
    assert path_of(question, tmp_path).is_file()
    assert found(question) == RESULTS
    with journal(question, resume=True) as kept:
        assert kept is not None
        kept.add(Result(index=9, unread="x"))
    assert [one.index for one in found(question)] == [0, 2, 3, 1, 9]


def test_without_resume_it_begins_anew(question: Question) -> None:
    write(question, RESULTS)
    write(question, RESULTS[:1])
    assert found(question) == RESULTS[:1]


def test_it_is_gone_when_all_is_told(question: Question, tmp_path: Path) -> None:
    with journal(question, resume=False) as kept:
        assert kept is not None
        kept.add(RESULTS[0])
        kept.remove()
    assert not path_of(question, tmp_path).exists()
    assert found(question) == []


def test_other_questions_have_others(question: Question) -> None:
    write(question, RESULTS)
    assert found(replace(question, enlarge=True)) == []
    assert found(replace(question, threads=1)) == RESULTS


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_line_is_dropped_and_written_anew(
    question: Question, tmp_path: Path, cut: int
) -> None:
    write(question, RESULTS)
    path = path_of(question, tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    with journal(question, resume=True) as kept:
        assert kept is not None
        assert kept.found == RESULTS[:3]
        kept.add(RESULTS[3])
    assert found(question) == RESULTS


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b'{"index": 5}\n',
        b'{"index": 5, "ranks": [], "top": [], "truth": 0, "unread": null}\n',
        b'{"index": 5, "ranks": [0, 0], "top": [], "truth": 0, "unread": null}\n',
        b'{"index": 500, "ranks": [], "top": [], "truth": 0, "unread": "beyond"}\n',
        b'{"index": 2, "ranks": [], "top": [], "truth": 0, "unread": "twice"}\n',
    ],
    ids=lambda line: str(line[:20]),
)
def test_from_a_damaged_line_on_it_is_done_again(
    question: Question, tmp_path: Path, line: bytes
) -> None:
    write(question, RESULTS)
    path = path_of(question, tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    assert found(question) == RESULTS[:2]
    assert path.read_bytes() == b"".join(lines[:2])


@pytest.mark.skipif(sys.platform == "win32", reason="locks")
def test_two_do_not_write_one_file(question: Question) -> None:
    write(question, RESULTS)
    with journal(question, resume=True):
        for resume in (False, True):
            with pytest.raises(VggspecError) as caught, journal(question, resume=resume):
                pass
            assert isinstance(caught.value.reports[0].what, EvaluationInUse)
    assert found(question) == RESULTS


def test_without_a_home_there_is_none(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "cache_folder", lambda: None)
    with journal(question, resume=True) as kept:
        assert kept is None


def test_what_cannot_be_written_is_a_report(question: Question, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "vggspec").write_text("in the way")
    with pytest.raises(VggspecError, match="cannot be written"), journal(question, resume=False):
        pass
