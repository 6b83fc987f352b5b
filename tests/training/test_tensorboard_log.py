"""TensorBoard finds in a run's folder what was written, read back by its own reader."""

import resource
import sys
import threading
from pathlib import Path

import pytest

from tests.test_import_cost import run as run_blocked
from tests.training.looks import a_step, an_epoch
from vggspec.base.catalogue.artefacts import CannotWrite
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.training.tensorboard_log import FOLDER, Board

pytest.importorskip("tensorboard")


def read(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag to its steps and values, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run / FOLDER))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def test_looks_and_epochs_become_scalars(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.step(a_step(5, loss=3.0, rate=0.25))
        board.epoch(an_epoch(1, loss=2.5, error=0.5, rate=0.25))
    assert read(tmp_path) == {
        "loss/train": [(5, 3.0)],
        "loss/train_epoch": [(10, 2.5)],
        "loss/validation": [(10, 1.25)],
        "error/top-1": [(10, 0.5)],
        "error/top-5": [(10, pytest.approx(0.1))],
        "rate": [(5, 0.25), (10, 0.25)],
        "images_per_s": [(5, 1234.5), (10, 1234.5)],
    }


def test_a_run_can_be_watched_while_it_goes_on(tmp_path: Path) -> None:
    before = threading.active_count()
    with Board(tmp_path) as board:
        for step in (1, 2):
            board.step(a_step(step))
            assert [seen for seen, _ in read(tmp_path)["rate"]][-1] == step
        assert threading.active_count() == before


def test_what_was_beyond_the_step_a_run_goes_on_from_is_not_shown(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        for step in range(1, 7):
            board.step(a_step(step, loss=3.0))
    with Board(tmp_path, after_step=4) as board:
        for step in range(5, 8):
            board.step(a_step(step, loss=2.0))
    losses = [3.0, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0]
    assert read(tmp_path)["loss/train"] == list(enumerate(losses, start=1))
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


def test_without_tensorboard_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "vggspec\[train\]"'):
        Board(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_neither_torch_nor_tensorflow_is_loaded(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from vggspec.training.tensorboard_log import Board\n"
        "with Board(Path('run')): print('open')\n"
    )
    assert run_blocked(program, {"torch", "tensorflow"}, cwd=tmp_path) == "open\n"


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(VggspecError) as caught:
        Board(tmp_path / "run")
    assert isinstance(caught.value.reports[0].what, CannotWrite)


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Board(tmp_path) as board:
        board.step(a_step(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(VggspecError) as caught:  # noqa: PT012
                for step in range(2, 1000):
                    board.step(a_step(step))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(caught.value.reports[0].what, CannotWrite)
    assert len(read(tmp_path)["rate"]) > 10  # what was written before is there
