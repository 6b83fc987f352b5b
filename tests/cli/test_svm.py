"""``vggspec svm``: what is fitted, on what, and what is said where it cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from tests.studies.features.test_linear_svm import blobs, flags_of
from vggspec.cli import run
from vggspec.studies.features.file import writing

pytest.importorskip("sklearn")

CLASSES = ("ant", "bee", "cat", "dog")
SETTINGS = {"nets": [{"net": "D", "layer": "relu7"}], "combine": "average"}

Done = tuple[int, str, str]

X, Y = blobs(120, 12, 4)
TRAIN, VAL = (X[:80], Y[:80]), (X[80:], Y[80:])
NINE, _ = blobs(9, 5, 3)


@pytest.fixture
def svm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    def call(*args: object) -> Done:
        code = run(["svm", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def write(
    path: Path,
    splits: dict[str, tuple[NDArray[Any], Any]],
    classes: tuple[str, ...] | None = CLASSES,
    settings: dict[str, Any] = SETTINGS,
) -> Path:
    width = next(iter(splits.values()))[0].shape[1]
    with writing(path, dict.fromkeys(splits, 1000), width, classes, settings) as writer:
        for split, (x, labels) in splits.items():
            writer.begin(split)
            for i, one in enumerate(x):
                writer.add(f"{split}/{i}.jpg", one, None if labels is None else labels[i])
    return path


def both(path: Path, **changes: Any) -> Path:
    return write(path, {"train": TRAIN, "val": VAL}, **changes)


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
    assert max(map(len, lines)) <= 100


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


def test_a_file_to_test_on(tmp_path: Path, svm: Any) -> None:
    """Its classes may be fewer and numbered otherwise."""
    x, y = blobs(80, 12, 4)
    fitted = write(tmp_path / "f", {"trainval": (x, y)})
    kept = y != 0
    turned = write(
        tmp_path / "t", {"test": (x[kept], (3 - y)[kept])}, classes=("dog", "cat", "bee")
    )
    same = write(tmp_path / "s", {"test": (x[kept], y[kept])})
    found = [json.loads(svm(fitted, "--test", p, "--json")[1])["test"] for p in (turned, same)]
    assert found[0]["accuracy"] == found[1]["accuracy"] > 0.7
    assert found[0]["of_classes"] == found[1]["of_classes"]
    assert found[0]["of_classes"][0] == {"class": "ant", "images": 0, "accuracy": None, "ap": None}
    code, out, _ = svm(fitted)
    assert code == 0
    assert "tested" not in out


def test_classes_without_any_image_are_left_out(tmp_path: Path, svm: Any) -> None:
    x, y = blobs(80, 12, 3)
    path = write(tmp_path / "f", {"train": (x, np.array([0, 1, 3])[y])})
    assert json.loads(svm(path, "--json")[1])["classes"] == ["ant", "bee", "dog"]
    x, y = blobs(80, 12, 2)
    path = write(tmp_path / "g", {"train": (x, 1 + y)}, classes=None)
    assert json.loads(svm(path, "--json")[1])["classes"] == ["1", "2"]


def test_c_at_the_end_of_what_was_tried_is_told(tmp_path: Path, svm: Any) -> None:
    path = both(tmp_path / "f")
    assert "smallest that was tried" in svm(path, "--c", "1000,10000")[2]
    assert svm(path, "--c", "1")[2] == ""


def test_what_did_not_converge_is_told(
    tmp_path: Path, svm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggspec.studies.features import linear_svm

    monkeypatch.setattr(linear_svm, "MAX_STEPS", 1)
    code, _, err = svm(both(tmp_path / "f"), "--c", "100", "--folds", "3")
    assert code == 0
    assert "at C = 100 3 fits of the cross-validation did not converge" in err
    assert "1 SVM of the model did not converge" in err


def spoilt(x: NDArray[np.float32]) -> NDArray[np.float32]:
    x[17, 3] = np.nan
    return x


NO_CLASS = np.zeros((9, 4), np.uint8)
ALL_CLASSES = np.ones((9, 4), np.uint8)
TWO_KINDS = {"train": blobs(30, 5, 3), "val": (NINE, ALL_CLASSES)}


@pytest.mark.parametrize(
    ("splits", "classes", "code", "words"),
    [
        ({"images": (NINE, None)}, None, "VGG711", "the file has `images`"),
        ({"a": blobs(9, 5, 3), "b": blobs(9, 5, 3)}, CLASSES, "VGG711", "`a` and `b`"),
        ({"train": (spoilt(X[:80].copy()), Y[:80])}, CLASSES, "VGG712", "17.jpg"),
        ({"train": TRAIN, "val": (spoilt(X[80:].copy()), Y[80:])}, CLASSES, "VGG712", "val/17"),
        ({"train": blobs(16, 5, 4)}, CLASSES, "VGG713", "`ant` has 4 images for 5 folds, and 3"),
        ({"train": blobs(16, 5, 4)}, CLASSES, "VGG713", "`--folds 4`"),
        ({"train": (NINE, np.zeros(9, np.int64))}, CLASSES, "VGG714", "1 class,"),
        ({"train": (NINE, NO_CLASS)}, CLASSES, "VGG714", "0 classes"),
        ({"train": (NINE, ALL_CLASSES)}, CLASSES, "VGG713", "0 images"),
        (TWO_KINDS, CLASSES, "VGG715", "several an image"),
    ],
)
def test_what_cannot_be_fitted_is_said(
    splits: Any, classes: Any, code: str, words: str, tmp_path: Path, svm: Any
) -> None:
    done, out, err = svm(write(tmp_path / "f", splits, classes=classes))
    assert (done, out) == (1, "")
    assert code in err
    assert words in err


@pytest.mark.parametrize(
    ("width", "changes", "words"),
    [
        (5, {}, "12 in the file to fit on, 5 here"),
        (12, {"classes": ("ant", "bee", "cow", "dog")}, "the classes differ"),
        (12, {"settings": SETTINGS | {"combine": "stack"}}, "the combine differ: average"),
    ],
)
def test_files_that_do_not_go_together(
    width: int, changes: dict[str, Any], words: str, tmp_path: Path, svm: Any
) -> None:
    test = write(tmp_path / "t", {"val": blobs(40, width, 4)}, **changes)
    code, _, err = svm(both(tmp_path / "f"), "--test", test)
    assert code == 1
    assert "VGG715" in err
    assert words in err
    assert str(test) in err


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
