"""Run folders are never written over, and the newest one is found."""

import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from vggspec.catalogue.artefacts import CannotWrite, InTheWay, NoWeights
from vggspec.diagnostic import VggspecError
from vggspec.train.record import save_record
from vggspec.train.runs import RECORD, find_weights, named_run, new_run, newest_best

DAY = date(2026, 11, 20)


def test_a_run_gets_the_next_number_of_its_day(tmp_path: Path) -> None:
    first = new_run("D", tmp_path, day=DAY)
    assert first == tmp_path / "D" / "2026-11-20-1"
    assert new_run("D", tmp_path, day=DAY).name == "2026-11-20-2"
    first.rmdir()
    (tmp_path / "D" / "2026-11-20-9").mkdir()
    assert new_run("D", tmp_path, day=DAY).name == "2026-11-20-10"
    assert new_run("D", tmp_path, day=date(2026, 11, 21)).name == "2026-11-21-1"
    assert new_run("E", tmp_path, day=DAY).name == "2026-11-20-1"


def test_two_runs_that_begin_at_once_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_run("D", tmp_path, day=DAY)
    monkeypatch.setattr("vggspec.train.runs._last_number", lambda folder, day: 0)
    assert new_run("D", tmp_path, day=DAY).name == "2026-11-20-2"


def test_a_named_run_wants_an_empty_folder(tmp_path: Path) -> None:
    run = named_run(tmp_path / "new" / "run")
    assert named_run(run) == run
    (run / "last.safetensors").touch()
    for path in (run, run / "last.safetensors"):
        with pytest.raises(VggspecError) as caught:
            named_run(path)
        assert isinstance(caught.value.reports[0].what, InTheWay)


def test_a_run_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    for make in (lambda: new_run("D", tmp_path / "runs"), lambda: named_run(tmp_path / "runs/D")):
        with pytest.raises(VggspecError) as caught:
            make()
        assert isinstance(caught.value.reports[0].what, CannotWrite)


def test_the_newest_run_with_weights_counts(tmp_path: Path) -> None:
    assert newest_best("D", tmp_path) is None
    for name in ("2026-11-20-2", "2026-11-20-10", "2025-12-31-30", "mine", "2026-11-21-1"):
        run = tmp_path / "D" / name
        run.mkdir(parents=True)
        if name != "2026-11-21-1":  # was interrupted in its first epoch
            (run / "best.safetensors").touch()
    assert newest_best("D", tmp_path) == tmp_path / "D/2026-11-20-10/best.safetensors"


def test_weights_beside_the_spec_come_second(tmp_path: Path) -> None:
    spec = str(tmp_path / "D.vgg")
    with pytest.raises(VggspecError) as caught:
        find_weights("D", spec, tmp_path / "runs")
    assert isinstance(caught.value.reports[0].what, NoWeights)
    beside = tmp_path / "D.safetensors"
    beside.touch()
    assert find_weights("D", spec, tmp_path / "runs") == beside
    best = new_run("D", tmp_path / "runs", day=DAY) / "best.safetensors"
    best.touch()
    assert find_weights("D", spec, tmp_path / "runs") == best


@pytest.mark.parametrize("moment", ["os.replace", "os.fsync"])
def test_a_run_that_was_killed_before_its_record_was_there_begins(
    tmp_path: Path, moment: str
) -> None:
    """And what the killed one left goes."""
    run = named_run(tmp_path / "run")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from vggspec.train.record import save_record\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_record(Path(sys.argv[1]), {})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(run)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(run)) == 1
    assert named_run(run) == run
    save_record(run, {})
    assert os.listdir(run) == [RECORD]
