"""Several processes say what one says, and none outlives the one that started them."""

import contextlib
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.runtime.bundles import make, weights
from tests.studies.evaluation.pictures import write_pictures
from tests.studies.tasks.spawned import Lagging, die_within_a_message
from vggspec.base import recipe
from vggspec.base.catalogue.artefacts import NotFinite
from vggspec.base.catalogue.evaluating import LostProcess
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.studies.evaluation.answers import Answering
from vggspec.studies.evaluation.question import ask
from vggspec.studies.tasks import processes
from vggspec.studies.tasks.processes import results_by

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def task(tmp_path: Path) -> Answering:
    bundles = [open_bundle(make(tmp_path / str(i), of=weights(i)).path) for i in (0, 1)]
    protocol = recipe.TestProtocol(scales=(17, 24), dense=True, crops=2)
    images = open_labelled(write_pictures(tmp_path / "data"))
    return Answering(ask(bundles, [protocol] * 2, images, device="cpu")[0])


def children() -> list[SpawnProcess]:
    """The processes that share images; workers of other tests' data loaders are forked."""
    return [one for one in multiprocessing.active_children() if isinstance(one, SpawnProcess)]


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert children() == []


def test_any_number_of_processes_says_the_same(task: Answering) -> None:
    indices = task.indices.tolist()
    expected = list(task.results(indices))
    assert list(results_by(task, indices, 1)) == expected
    found = list(results_by(task, indices, 3))
    assert sorted(found, key=lambda one: one.index) == expected
    # More processes than images.
    few = sorted(results_by(task, indices[:2], 5), key=lambda one: one.index)
    assert few == expected[:2]
    assert list(results_by(task, [], 2)) == []


def test_results_come_in_order_where_that_is_requested(
    task: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    indices = [*task.indices.tolist(), 3, 1]
    expected = list(task.results(indices))
    for ahead in (1, 512):
        monkeypatch.setattr(processes, "AHEAD", ahead)
        assert list(results_by(task, indices, 2, in_order=True)) == expected
    assert list(results_by(task, [], 2, in_order=True)) == []


def test_who_is_far_ahead_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all that is found out meanwhile would lie in memory."""
    monkeypatch.setattr(processes, "AHEAD", 4)
    context = multiprocessing.get_context("spawn")
    task = Lagging(context.Event(), context.Semaphore(0))
    found: list[int] = []

    def gather() -> None:
        found.extend(one.index for one in results_by(task, task.indices.tolist(), 3, in_order=True))

    gathering = threading.Thread(target=gather)
    gathering.start()
    for _ in range(2 * 4):
        task.sent.acquire()
    assert not task.sent.acquire(block=False)
    task.gate.set()
    gathering.join()
    assert found == list(range(120))


def test_the_error_of_a_process_is_the_error(task: Answering, tmp_path: Path) -> None:
    broken = weights(1)
    broken["fc3.bias"] = np.full(5, np.nan, np.float32)
    net = open_bundle(make(tmp_path / "broken", of=broken).path)
    images = open_labelled(tmp_path / "data")
    other = Answering(ask([net], [net.manifest.test], images, device="cpu")[0])
    with pytest.raises(VggspecError) as caught:
        list(results_by(other, other.indices.tolist(), 2))
    (found,) = caught.value.reports
    assert isinstance(found.what, NotFinite)
    assert found.path == str(tmp_path / "broken")


def test_a_library_that_lacks_is_said_as_by_one_process(tmp_path: Path) -> None:
    net = open_bundle(make(tmp_path / "net").path)
    images = open_labelled(write_pictures(tmp_path / "data"))
    task = Answering(ask([net], [net.manifest.test], images, device="cuda")[0])
    messages = []
    for procs in (1, 2):
        try:
            list(results_by(task, task.indices.tolist(), procs))
        except MissingLibraryError as error:
            messages.append(str(error))
        else:
            pytest.skip("there is a CUDA device")
    assert messages[0] == messages[1]


def test_a_process_that_is_killed_is_reported(task: Answering) -> None:
    results = results_by(task, task.indices.tolist() * 200, 2)
    next(results)
    victim = children()[0]
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(VggspecError) as caught:
        list(results)
    what = caught.value.reports[0].what
    assert isinstance(what, LostProcess)
    assert "SIGKILL" in what.title()


def test_a_process_that_is_killed_within_a_message_is_reported() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=die_within_a_message, args=(theirs,))
    process.start()
    theirs.close()
    with ours, pytest.raises(VggspecError) as caught:
        list(processes._received({ours: process}, [ours]))
    process.join()
    what = caught.value.reports[0].what
    assert isinstance(what, LostProcess)
    assert "SIGKILL" in what.title()


def test_who_stops_listening_ends_them(task: Answering) -> None:
    results = results_by(task, task.indices.tolist() * 200, 2)
    next(results)
    assert len(children()) == 2
    results.close()
    assert children() == []


def test_ctrl_c_reaches_this_process_alone(task: Answering) -> None:
    """In a terminal the whole group gets it: the others must not die of it before they are told."""
    results = results_by(task, task.indices.tolist() * 200, 2)
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


def test_a_process_sees_its_gpu_alone(task: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    ours, theirs = multiprocessing.Pipe(duplex=False)
    processes._work(task, [3], "1", theirs)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert (ours.recv().index, ours.recv()) == (3, None)


ENDLESS = """
import sys
from tests.studies.tasks.spawned import Sleeping, SleepingNet
from vggspec.studies.bench.worker import Worker
from vggspec.studies.tasks.processes import results_by
if __name__ == "__main__":
    if sys.argv[1] == "bench":
        Worker(SleepingNet(), "net").load()
    else:
        list(results_by(Sleeping(), range(2), 2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize(("what", "number"), [("bench", 1), ("task", 2)])
def test_a_process_in_native_code_ends_with_a_parent_that_is_killed(
    what: str, number: int, tmp_path: Path
) -> None:
    script = tmp_path / "endless.py"  # a file: the processes import it
    script.write_text(ENDLESS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), what]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in range(number)]
    parent.kill()
    parent.wait()
    # The pipe is closed once nobody holds its other end.
    ready, _, _ = select.select([parent.stdout], [], [], 30)
    try:
        assert ready
        assert parent.stdout.read() == ""
    finally:
        parent.stdout.close()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
