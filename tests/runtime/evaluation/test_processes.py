"""Several processes say what one says, and none outlives the one that started them."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.bundles import make, weights
from tests.runtime.evaluation.pictures import write_pictures
from vggspec import recipe
from vggspec.bundle import open_bundle
from vggspec.catalogue.artefacts import NotFinite
from vggspec.catalogue.evaluating import LostProcess
from vggspec.data.labelled import open_labelled
from vggspec.diagnostic import MissingLibraryError, VggspecError
from vggspec.runtime.evaluation import processes
from vggspec.runtime.evaluation.answers import answer
from vggspec.runtime.evaluation.processes import answer_by
from vggspec.runtime.evaluation.question import Question, ask

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def question(tmp_path: Path) -> Question:
    bundles = [open_bundle(make(tmp_path / str(i), of=weights(i)).path) for i in (0, 1)]
    protocol = recipe.TestProtocol(scales=(17, 24), dense=True, crops=2)
    images = open_labelled(write_pictures(tmp_path / "data"))
    return ask(bundles, [protocol] * 2, images, device="cpu")[0]


def children() -> list[SpawnProcess]:
    """The processes that evaluate; workers of other tests' data loaders are forked."""
    return [one for one in multiprocessing.active_children() if isinstance(one, SpawnProcess)]


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert children() == []


def test_any_number_of_processes_says_the_same(question: Question) -> None:
    indices = question.indices.tolist()
    expected = list(answer(question, indices))
    assert list(answer_by(question, indices, 1)) == expected
    found = list(answer_by(question, indices, 3))
    assert sorted(found, key=lambda one: one.index) == expected
    # More processes than images.
    few = sorted(answer_by(question, indices[:2], 5), key=lambda one: one.index)
    assert few == expected[:2]
    assert list(answer_by(question, [], 2)) == []


def test_the_error_of_a_process_is_the_error(question: Question, tmp_path: Path) -> None:
    broken = weights(1)
    broken["fc3.bias"] = np.full(5, np.nan, np.float32)
    net = open_bundle(make(tmp_path / "broken", of=broken).path)
    images = open_labelled(tmp_path / "data")
    other, _ = ask([net], [net.manifest.test], images, device="cpu")
    with pytest.raises(VggspecError) as caught:
        list(answer_by(other, other.indices.tolist(), 2))
    (found,) = caught.value.reports
    assert isinstance(found.what, NotFinite)
    assert found.path == str(tmp_path / "broken")


def test_a_library_that_lacks_is_said_as_by_one_process(tmp_path: Path) -> None:
    net = open_bundle(make(tmp_path / "net").path)
    images = open_labelled(write_pictures(tmp_path / "data"))
    question, _ = ask([net], [net.manifest.test], images, device="cuda")
    messages = []
    for procs in (1, 2):
        try:
            list(answer_by(question, question.indices.tolist(), procs))
        except MissingLibraryError as error:
            messages.append(str(error))
        else:
            pytest.skip("there is a CUDA device")
    assert messages[0] == messages[1]


def test_a_process_that_is_killed_is_reported(question: Question) -> None:
    results = answer_by(question, question.indices.tolist() * 200, 2)
    next(results)
    victim = children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(VggspecError) as caught:
        list(results)
    what = caught.value.reports[0].what
    assert isinstance(what, LostProcess)
    assert "SIGKILL" in what.title()


def test_who_stops_listening_ends_them(question: Question) -> None:
    results = answer_by(question, question.indices.tolist() * 200, 2)
    next(results)
    assert len(children()) == 2
    results.close()
    assert children() == []


def test_ctrl_c_reaches_this_process_alone(question: Question) -> None:
    """In a terminal the whole group gets it: the others must not die of it before they are told."""
    results = answer_by(question, question.indices.tolist() * 200, 2)
    next(results)
    for child in children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGINT)
    assert [next(results).unread for _ in range(100)] == [None] * 100
    results.close()


@pytest.mark.parametrize(
    ("visible", "number", "expected"),
    [(None, 1, "1"), ("", 0, "0"), ("2,5", 1, "5"), ("GPU-8932f937, GPU-1", 0, "GPU-8932f937")],
)
def test_each_process_has_a_gpu_of_those_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int, expected: str
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes._gpu(number) == expected


def test_a_process_sees_its_gpu_alone(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    processes._work(question, [3], "1", theirs)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert (ours.recv().index, ours.recv()) == (3, None)
