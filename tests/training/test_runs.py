"""Run folders are never written over, and the newest one is found."""

import json
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from vggspec.base.catalogue.artefacts import CannotWrite, InTheWay, NoWeights
from vggspec.base.diagnostic import VggspecError
from vggspec.base.run_record import RECORD
from vggspec.training.record import save_record
from vggspec.training.runs import (
    FoundWeights,
    _with_best,
    find_weights,
    named_run,
    new_run,
)

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
    monkeypatch.setattr("vggspec.training.runs._last_number", lambda folder, day: 0)
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
    assert _with_best("D", tmp_path) == []
    for name in ("2026-11-20-2", "2026-11-20-10", "2025-12-31-30", "mine", "2026-11-21-1"):
        run = tmp_path / "D" / name
        run.mkdir(parents=True)
        if name != "2026-11-21-1":  # was interrupted in its first epoch
            (run / "best.safetensors").touch()
    found = [run.name for run in _with_best("D", tmp_path)]
    assert found == ["2026-11-20-10", "2026-11-20-2", "2025-12-31-30"]


def test_weights_beside_the_spec_come_second(tmp_path: Path) -> None:
    spec = str(tmp_path / "D.vgg")
    with pytest.raises(VggspecError) as caught:
        find_weights("D", spec, tmp_path / "runs", option="--weights")
    assert isinstance(caught.value.reports[0].what, NoWeights)
    beside = tmp_path / "D.safetensors"
    beside.touch()
    assert find_weights("D", spec, tmp_path / "runs", option="--weights").path == beside
    best = new_run("D", tmp_path / "runs", day=DAY) / "best.safetensors"
    best.touch()
    assert find_weights("D", spec, tmp_path / "runs", option="--weights").path == best


def write_run(runs: Path, number: int, error: object, **other: object) -> Path:
    """A run of net D as its record tells it."""
    run = runs / "D" / f"2026-11-20-{number}"
    run.mkdir(parents=True)
    (run / "best.safetensors").touch()
    best = {"validation": {"errors": {"top-1": error, "top-5": 0.0}}, "epoch": number}
    record: dict[str, object] = {
        "settings": [],
        "layers": ["fc1: FC-3"],
        "data": {"classes": ["a", "b"], "fingerprint": "0"},
        "result": {"best": best, "step": 7, "was_stopped": False},
    }
    (run / "run.json").write_text(json.dumps(record | other))
    return run


def found(runs: Path) -> FoundWeights:
    return find_weights("D", "D.vgg", runs, option="--weights")


def test_the_error_of_the_newest_run_is_told(tmp_path: Path) -> None:
    write_run(tmp_path, 1, 0.12)
    run = write_run(tmp_path, 2, 0.125)
    weights = found(tmp_path)
    assert weights.path == run / "best.safetensors"
    assert "validation error 12.50% after epoch 2, 20" in weights.in_words()
    assert weights.notes == ()


def test_the_mean_iou_of_the_newest_run_is_told(tmp_path: Path) -> None:
    """Where it decides, a larger one is better."""

    def result(mean_iou: float) -> dict[str, object]:
        scores = {"mean IoU": mean_iou, "pixel accuracy": 0.9}
        best = {"validation": {"errors": {}, "scores": scores}, "epoch": 4}
        return {"best": best, "step": 7, "was_stopped": False}

    write_run(tmp_path, 1, None, result=result(0.8))
    write_run(tmp_path, 2, None, result=result(0.6525))
    weights = found(tmp_path)
    assert "validation mean IoU 65.25% after epoch 4, 20" in weights.in_words()
    (note,) = weights.notes
    assert "did better by far, validation mean IoU 80.00% after epoch 4" in note


@pytest.mark.parametrize(
    ("older", "newest", "is_said"),
    [
        (0.02, 0.75, True),
        (0.20, 0.25, True),
        (0.21, 0.25, False),  # less than a fifth
        (0.002, 0.011, False),  # less than a point
        (0.75, 0.02, False),
    ],
)
def test_an_older_run_that_did_better_by_far_is_named(
    tmp_path: Path, older: float, newest: float, is_said: bool
) -> None:
    best = write_run(tmp_path, 1, older)
    write_run(tmp_path, 2, 0.999)
    write_run(tmp_path, 3, newest)
    notes = found(tmp_path).notes
    assert any(f"to take it: --weights {best / 'best.safetensors'}" in note for note in notes) == (
        is_said
    )


@pytest.mark.parametrize(
    "other",
    [
        {"layers": ["fc1: FC-4"]},
        {"data": {"classes": ["a", "b"], "fingerprint": "1"}},
        {"data": {"classes": ["a", "c"], "fingerprint": "0"}},
        {"result": None},
    ],
)
def test_runs_of_another_net_or_other_images_are_not_compared(
    tmp_path: Path, other: dict[str, object]
) -> None:
    write_run(tmp_path, 1, 0.02, **other)
    write_run(tmp_path, 2, 0.75)
    assert found(tmp_path).notes == ()


def test_a_run_of_another_length_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, 1, 0.75, settings=["rate=1", "stop=after 1  iterations"])
    (note,) = found(tmp_path).notes
    assert note == f"{run} was trained for 7 steps, by `--set 'stop=after 1 iterations'`"
    result = json.loads((run / "run.json").read_text())["result"]
    run = write_run(tmp_path, 2, 0.75, result=result | {"was_stopped": True})
    assert found(tmp_path).notes == (f"{run} was not finished: it has come to 7 steps",)
    newer = tmp_path / "D" / "2026-11-20-3"
    newer.mkdir()
    (newer / "run.json").write_text("{}")
    assert found(tmp_path).path == run / "best.safetensors"
    assert found(tmp_path).notes[0].startswith(f"{newer} is newer and has no weights yet")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", '{"result": 1}', "[" * 100_000, "\ud800", '{"result": {"best": {}}}'],
)
def test_a_record_that_cannot_be_read_is_no_obstacle(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path, 1, 0.5)
    (run / "run.json").write_text(text, errors="surrogatepass")
    assert found(tmp_path).in_words().endswith("with an unknown error")
    for number, error in enumerate((10**400, float("nan"), "1", None, [], True, -1), start=2):
        write_run(tmp_path, number, error)
        assert found(tmp_path).path.parent.name == f"2026-11-20-{number}"


@pytest.mark.parametrize("moment", ["os.replace", "os.fsync"])
def test_a_run_that_was_killed_before_its_record_was_there_begins(
    tmp_path: Path, moment: str
) -> None:
    """And what the killed one left goes."""
    run = named_run(tmp_path / "run")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from vggspec.training.record import save_record\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_record(Path(sys.argv[1]), {})\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(run)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(os.listdir(run)) == 1
    assert named_run(run) == run
    save_record(run, {})
    assert os.listdir(run) == [RECORD]
