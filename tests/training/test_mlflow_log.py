"""What MLflow receives of a run, by its own client and a store of files."""

import json
from pathlib import Path

import pytest

from tests.training.folders import TINY, write_folder
from vggspec.base.watcher import Watcher
from vggspec.training.mlflow_log import is_asked_for
from vggspec.training.train import train


class Noting(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for variable in ("EXPERIMENT_ID", "EXPERIMENT_NAME", "RUN_ID", "TRACKING_URI"):
        monkeypatch.delenv(f"MLFLOW_{variable}", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    write_folder(tmp_path / "images")
    (tmp_path / "tiny.vgg").write_text(TINY)
    return tmp_path


def test_nothing_is_sent_unless_it_is_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_asked_for()
    train("tiny.vgg", data="images", run="run", settings=["stop=after 1 epochs"])
    assert not Path("mlruns").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(here / "mlruns"))
    monkeypatch.setattr("vggspec.training.mlflow_log.has_library", lambda name: name != "mlflow")
    assert not is_asked_for()


def test_mlflow_has_what_the_log_has(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (here / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")
    watch = Noting()
    train("tiny.vgg", data="images", run="run", settings=["stop=after 2 epochs"], watch=watch)
    resumed = ["stop=after 3 epochs"]
    train("tiny.vgg", run="run", data="images", resume=True, settings=resumed, watch=watch)
    assert not any("MLflow" in note for note in watch.notes), watch.notes
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("birds")
    (sent,) = client.search_runs([experiment.experiment_id])
    assert sent.info.status == "FINISHED"
    assert sent.data.params["train rate"] == "0.01"
    assert sent.data.params["net"] == "tiny"
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if "validation" in line]
    assert len(epochs) == 3
    for key, value in (
        ("loss/validation", lambda epoch: epoch["validation"]["loss"]),
        ("error/top-1", lambda epoch: epoch["validation"]["errors"]["top-1"]),
        ("loss/train_epoch", lambda epoch: epoch["loss"]),
    ):
        history = client.get_metric_history(sent.info.run_id, key)
        expected = [(epoch["step"], value(epoch)) for epoch in epochs]
        assert sorted((point.step, point.value) for point in history) == expected


def test_a_server_that_is_not_there_ends_no_training(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    watch = Noting()
    settings = ["stop=after 1 epochs"]
    result = train("tiny.vgg", data="images", run="run", settings=settings, watch=watch)
    assert result.weights.exists()
    assert sum("cannot be reached" in note for note in watch.notes) == 1
