"""``vggspec svm``: what is fitted, on what, and what is said where it cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.studies.features.test_fit_svm import CLASSES, TRAIN, VAL, both, write
from tests.studies.features.test_linear_svm import flags_of
from vggspec.cli import run

pytest.importorskip("sklearn")

Done = tuple[int, str, str]


@pytest.fixture
def svm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def call(*args: object) -> Done:
        code = run(["svm", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_a_table_for_people(tmp_path: Path, svm: Any) -> None:
    code, out, err = svm(both(tmp_path / "f"), "--c", "1,0.1,10", "--folds", 4)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "fitted on `train`: 80 images of 4 classes, 12 numbers each"
    assert lines[2].split() == ["C", "accuracy", "4", "folds"]
    assert [line.split()[0] for line in lines[3:6]] == ["0.1", "1", "10"]
    assert sum("*" in line for line in lines[3:6]) == 1
    assert "tested on `val`: 40 images" in lines
    assert any(line.startswith("mean average precision") for line in lines)
    assert {line.split()[0] for line in lines if line} >= set(CLASSES)
    assert max(map(len, lines)) <= 80


def test_the_same_as_data_and_as_scikit_learn(tmp_path: Path, svm: Any) -> None:
    from sklearn.metrics import accuracy_score, average_precision_score
    from sklearn.svm import LinearSVC

    path = both(tmp_path / "f")
    code, out, _ = svm(path, "--json", "-o", tmp_path / "m")
    found = json.loads(out)
    assert code == 0
    (x, y), (test, truth) = TRAIN, VAL
    direct = LinearSVC(C=found["c"], dual=False).fit(x.astype(np.float64), y)
    assert found["test"]["accuracy"] == accuracy_score(truth, direct.predict(test))
    scores = direct.decision_function(test)
    for k, each in enumerate(found["test"]["of_classes"]):
        wanted = average_precision_score(truth == k, scores[:, k])
        assert (each["class"], each["images"]) == (CLASSES[k], 10)
        assert each["ap"] == pytest.approx(wanted, abs=1e-3)
    assert [trial["c"] for trial in found["trials"]] == [0.01, 0.1, 1, 10, 100]
    best = max(found["trials"], key=lambda trial: (trial["mean"], -trial["c"]))
    assert found["c"] == best["c"]
    assert found["fit"] == {"file": str(path), "split": "train", "images": 80, "numbers": 12}
    model = safetensors.numpy.load_file(tmp_path / "m")
    said = (test @ model["weights"].T + model["bias"]).argmax(axis=1)
    np.testing.assert_array_equal(said, direct.predict(test))
    assert svm(path, "--json")[1] == out  # again, to the last digit


def test_several_classes_an_image(tmp_path: Path, svm: Any) -> None:
    (x, y), (test, truth) = TRAIN, VAL
    splits = {"train": (x, flags_of(y, 4)), "val": (test, flags_of(truth, 4, seed=1))}
    path = write(tmp_path / "f", splits)
    code, out, _ = svm(path, "--json", "--ap", "voc07", "--c", "1")
    found = json.loads(out)
    assert (code, found["chosen_by"], found["ap"]) == (0, "mean average precision", "voc07")
    assert found["test"]["accuracy"] is found["test"]["mean_class_accuracy"] is None
    assert found["test"]["confusions"] == []
    aps = [each["ap"] for each in found["test"]["of_classes"]]
    assert found["test"]["mean_average_precision"] == pytest.approx(sum(aps) / 4)
    text = svm(path, "--ap", "voc07", "--c", "1")[1]
    assert "(11 points, as VOC 2007)" in text
    assert "accuracy" not in text


def test_c_at_the_end_of_what_was_tried_is_told(tmp_path: Path, svm: Any) -> None:
    path = both(tmp_path / "f")
    assert "smallest value that was tried" in svm(path, "--c", "1000,10000")[2]
    assert svm(path, "--c", "1")[2] == ""


@pytest.mark.parametrize("name", ["f", "t"])
def test_a_model_does_not_replace_the_features(name: str, tmp_path: Path, svm: Any) -> None:
    features, test = both(tmp_path / "f"), write(tmp_path / "t", {"val": VAL})
    before = features.read_bytes(), test.read_bytes()
    code, out, err = svm(features, "--test", test, "-o", tmp_path / name)
    assert (code, out) == (2, "")
    assert f"`-o {tmp_path / name}` is a file that is read; name another one." in err
    assert (features.read_bytes(), test.read_bytes()) == before


@pytest.mark.parametrize("args", [["--c", "0"], ["--c", "a"], ["--c", "inf"], ["--folds", "1"]])
def test_wrong_usage(args: list[str], tmp_path: Path, svm: Any) -> None:
    code, out, _ = svm(both(tmp_path / "f"), *args)
    assert (code, out) == (2, "")


def test_without_scikit_learn_the_extra_is_named(
    tmp_path: Path, svm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    whole = importlib.import_module

    def gone(name: str, package: str | None = None) -> Any:
        if name == "sklearn":
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
        return whole(name, package)

    monkeypatch.setattr(importlib, "import_module", gone)
    code, out, err = svm(both(tmp_path / "f"))
    assert (code, out) == (3, "")
    assert 'pip install "vggspec[svm]"' in err


def test_an_unusable_file_is_an_error(tmp_path: Path, svm: Any) -> None:
    path = write(tmp_path / "f", {"images": (TRAIN[0], None)}, classes=None)
    code, out, err = svm(path)
    assert (code, out) == (1, "")
    assert "error[VGG711]" in err


@pytest.mark.parametrize("folds", [5, 30])
def test_it_fits_80_columns(
    folds: int, tmp_path: Path, svm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With names as ImageNet's, and more folds than fit a line."""
    monkeypatch.setenv("COLUMNS", "80")
    x, y = TRAIN
    classes = tuple(f"{name}, {name} of the southern seas, Carcharodon {name}" for name in CLASSES)
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    path = write(tmp_path / "f", {"train": (x, y), "val": VAL}, classes=classes)
    code, out, _ = svm(path, "--folds", folds, "--c", "1,100")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "southern seas" in out
    wide = svm(path, "--folds", folds, "--c", "1,100", "--wide")[1]
    assert max(map(len, wide.splitlines())) > 80
