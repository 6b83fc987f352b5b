"""``fit_svm``: the splits that it uses, its warnings, and the files that it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from tests.refusals import refused, told
from tests.studies.features.test_linear_svm import blobs
from vggspec.base.diagnostic import ArgumentError
from vggspec.studies.features import linear_svm
from vggspec.studies.features.file import writing
from vggspec.studies.features.fit_svm import fit_svm

pytest.importorskip("sklearn")

CLASSES = ("ant", "bee", "cat", "dog")
SETTINGS = {"nets": [{"net": "D", "layer": "relu7"}], "combine": "average"}

X, Y = blobs(120, 12, 4)
TRAIN, VAL = (X[:80], Y[:80]), (X[80:], Y[80:])
NINE, _ = blobs(9, 5, 3)


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


def test_a_file_to_test_on(tmp_path: Path) -> None:
    """Its classes may be fewer and numbered otherwise."""
    x, y = blobs(80, 12, 4)
    fitted = write(tmp_path / "f", {"trainval": (x, y)})
    kept = y != 0
    turned = write(
        tmp_path / "t", {"test": (x[kept], (3 - y)[kept])}, classes=("dog", "cat", "bee")
    )
    same = write(tmp_path / "s", {"test": (x[kept], y[kept])})
    found = [fit_svm(fitted, test=p).as_data()["test"] for p in (turned, same)]
    assert found[0]["accuracy"] == found[1]["accuracy"] > 0.7
    assert found[0]["of_classes"] == found[1]["of_classes"]
    assert found[0]["of_classes"][0] == {"class": "ant", "images": 0, "accuracy": None, "ap": None}
    alone = fit_svm(fitted)
    assert alone.scores is None
    assert "test" not in alone.as_data()


def test_classes_without_any_image_are_left_out(tmp_path: Path) -> None:
    x, y = blobs(80, 12, 3)
    path = write(tmp_path / "f", {"train": (x, np.array([0, 1, 3])[y])})
    assert fit_svm(path).data.classes == ("ant", "bee", "dog")
    x, y = blobs(80, 12, 2)
    path = write(tmp_path / "g", {"train": (x, 1 + y)}, classes=None)
    assert fit_svm(path).data.classes == ("1", "2")


def test_what_did_not_converge_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_svm, "MAX_STEPS", 1)
    assert fit_svm(both(tmp_path / "f"), cs=[100], folds=3).warnings == (
        "at C = 100, 3 fits of the cross-validation did not converge",
        "1 SVM of the model did not converge",
    )


def spoilt(x: NDArray[np.float32]) -> NDArray[np.float32]:
    x[17, 3] = np.nan
    return x


NO_CLASS = np.zeros((9, 4), np.uint8)
ALL_CLASSES = np.ones((9, 4), np.uint8)
TWO_KINDS = {"train": blobs(30, 5, 3), "val": (NINE, ALL_CLASSES)}


@pytest.mark.parametrize(
    ("splits", "classes", "code", "words"),
    [
        ({"images": (NINE, None)}, None, "VGG711", "it contains `images`"),
        ({"a": blobs(9, 5, 3), "b": blobs(9, 5, 3)}, CLASSES, "VGG711", "`a` and `b`"),
        ({"train": (spoilt(X[:80].copy()), Y[:80])}, CLASSES, "VGG712", "17.jpg"),
        ({"train": TRAIN, "val": (spoilt(X[80:].copy()), Y[80:])}, CLASSES, "VGG712", "val/17"),
        ({"train": blobs(16, 5, 4)}, CLASSES, "VGG713", "`ant` has 4 images for 5 folds, and 3"),
        ({"train": blobs(16, 5, 4)}, CLASSES, "VGG713", "`--folds 4`"),
        ({"train": (NINE, np.zeros(9, np.int64))}, CLASSES, "VGG714", "1 class,"),
        ({"train": (NINE, NO_CLASS)}, CLASSES, "VGG714", "0 classes"),
        (
            {"train": (NINE, ALL_CLASSES)},
            CLASSES,
            "VGG713",
            "0 images are without class `ant` for 5",
        ),
        ({"train": (NINE, ALL_CLASSES)}, CLASSES, "VGG713", "add images without it, or remove"),
        (TWO_KINDS, CLASSES, "VGG715", "several an image"),
    ],
)
def test_what_cannot_be_fitted_is_said(
    splits: Any, classes: Any, code: str, words: str, tmp_path: Path
) -> None:
    with refused(code) as error:
        fit_svm(write(tmp_path / "f", splits, classes=classes))
    assert words in told(error.value)


@pytest.mark.parametrize(
    ("width", "changes", "words"),
    [
        (5, {}, "12 in the file to fit on, 5 here"),
        (12, {"classes": ("ant", "bee", "cow", "dog")}, "the classes differ"),
        (12, {"settings": SETTINGS | {"combine": "stack"}}, "the combine differ: average"),
    ],
)
def test_files_that_do_not_go_together(
    width: int, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    test = write(tmp_path / "t", {"val": blobs(40, width, 4)}, **changes)
    with refused("VGG715") as error:
        fit_svm(both(tmp_path / "f"), test=test)
    assert words in told(error.value)
    assert str(test) in told(error.value)


def test_splits_of_other_widths_in_one_file(tmp_path: Path) -> None:
    (train, labels), (val, others) = TRAIN, VAL
    arrays = {"train.features": train, "train.labels": labels.astype(np.int64)}
    arrays |= {"val.features": val[:, :7].copy(), "val.labels": others.astype(np.int64)}
    safetensors.numpy.save_file(arrays, tmp_path / "f")
    with refused("VGG710") as error:
        fit_svm(tmp_path / "f")
    assert "descriptors have 12 numbers in `train`, 7 in `val`" in told(error.value)


def test_arguments_are_checked(tmp_path: Path) -> None:
    for bad in ({"cs": [0.0]}, {"cs": []}, {"folds": 1}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            fit_svm(both(tmp_path / "f"), **bad)  # type: ignore[arg-type]
