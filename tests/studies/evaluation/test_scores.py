"""Scores of classes and calibration against scikit-learn, and what their pictures show."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tests.runtime.bundles import make
from tests.studies.evaluation.pictures import write_pictures
from vggspec.studies.evaluation.answers import Errors, Tally
from vggspec.studies.evaluation.calibration import BINS, calibrated
from vggspec.studies.evaluation.class_scores import class_scores, macro
from vggspec.studies.evaluation.evaluate import evaluate
from vggspec.studies.evaluation.figures import _most_confused, confusion_png, reliability_png

metrics = pytest.importorskip("sklearn.metrics")


@dataclass
class _Asked:
    labels: tuple[str, ...]


@dataclass
class Counted:
    """The counts of a tally, without the images that were counted."""

    question: _Asked
    by_class: dict[int, Errors] = field(default_factory=dict)
    confusions: Counter[tuple[int, int]] = field(default_factory=Counter)


def counted(true: Any, said: Any, classes: int) -> Tally:
    found = Counted(_Asked(tuple(f"class {i}" for i in range(classes))))
    for t, s in zip(true.tolist(), said.tolist(), strict=True):
        found.by_class.setdefault(t, Errors()).add(int(t != s), 5)
        if t != s:
            found.confusions[t, s] += 1
    return cast("Tally", found)


@pytest.mark.parametrize("classes", [2, 7, 300])
def test_precision_recall_and_f1_are_scikit_learns(classes: int) -> None:
    random = np.random.default_rng(classes)
    true = random.integers(0, max(classes - 1, 1), 400)  # the last class has no images
    said = np.where(random.random(400) < 0.5, true, random.integers(0, classes, 400))
    tally = counted(true, said, classes)
    ours = class_scores(tally)
    labels = np.unique(true)
    assert [one.index for one in ours] == labels.tolist()
    theirs = metrics.precision_recall_fscore_support(true, said, labels=labels, zero_division=0)
    for found, expected in zip(zip(*map(numbers, ours), strict=True), theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    mean = macro(ours)
    of_all = metrics.precision_recall_fscore_support(
        true, said, labels=labels, zero_division=0, average="macro"
    )
    np.testing.assert_allclose((mean.precision, mean.recall, mean.f1), of_all[:3], rtol=1e-12)
    assert [one.predicted for one in ours] == [int((said == i).sum()) for i in labels]


def numbers(one: Any) -> tuple[float, float, float, int]:
    return one.precision, one.recall, one.f1, one.images


def test_calibration_is_scikit_learns() -> None:
    from sklearn.calibration import calibration_curve

    random = np.random.default_rng(0)
    sure = np.concatenate([random.beta(4, 1.5, 700), [1.0, 1 / BINS, 2 / BINS]])
    is_right = random.random(len(sure)) < sure**1.5
    ours = calibrated(zip(sure.tolist(), is_right.tolist(), strict=True))
    share, mean = calibration_curve(is_right, sure, n_bins=BINS, strategy="uniform")
    np.testing.assert_allclose([each.accuracy for each in ours.bins], share, rtol=1e-12)
    np.testing.assert_allclose([each.confidence for each in ours.bins], mean, rtol=1e-12)
    assert sum(each.images for each in ours.bins) == len(sure)
    edges = np.linspace(0, 1, BINS + 1)
    weights = np.histogram(-sure, -edges[::-1])[0][::-1] / len(sure)  # (low, high]
    expected = (weights[weights > 0] * np.abs(share - mean)).sum()
    assert ours.error == pytest.approx(expected, rel=1e-12)
    assert ours.confidence == pytest.approx(sure.mean(), rel=1e-12)


def test_the_order_of_the_answers_changes_no_bit() -> None:
    random = np.random.default_rng(1)
    answers = [(float(sure), bool(sure > 0.4)) for sure in random.random(200)]
    assert calibrated(answers) == calibrated(reversed(answers))
    assert calibrated([]).error == 0
    above = calibrated([(1.0000000002, True)])  # means of posteriors are rounded
    assert above.error == 0


def test_the_evaluation_has_them(tmp_path: Path) -> None:
    labels = ("red", "green", "blue", *(f"other {i}" for i in range(2)))
    net = make(tmp_path / "net", labels=labels).path
    data = write_pictures(tmp_path / "data", 12, ("red", "green", "blue"))
    found = evaluate(net, data, device="cpu")
    results = [one for one in found.results if one.unread is None]
    true = [found.question.truth(one.index) for one in results]
    said = [one.top[0][0] for one in results]
    f1 = metrics.f1_score(true, said, labels=np.unique(true), average="macro", zero_division=0)
    assert found.macro_scores.f1 == pytest.approx(f1)
    data_ = json.loads(json.dumps(found.as_data(), allow_nan=False))
    assert [one["f1"] for one in data_["classes"]] == [one.f1 for one in found.class_scores]
    assert data_["macro"]["f1"] == found.macro_scores.f1
    assert found.calibration is not None
    assert data_["calibration"]["error"] == found.calibration.error
    assert 0 <= found.calibration.error <= 1


@pytest.mark.curves
def test_a_report_has_pictures(tmp_path: Path) -> None:
    labels = ("red", "green", "blue", *(f"other {i}" for i in range(2)))
    net = make(tmp_path / "net", labels=labels).path
    data = write_pictures(tmp_path / "data", 4, ("red", "green", "blue"))
    evaluate(net, data, device="cpu", report=tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"index.html", "results.json", "confusions.png", "calibration.png"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "calibration error" in page
    assert 'src="data:image/png;base64,' in page


@pytest.mark.parametrize("classes", [3, 60])
def test_the_confusions_are_where_they_belong(classes: int) -> None:
    true = np.repeat(np.arange(classes), 10)
    said = true.copy()
    said[5] = classes - 1  # half of the images of no class but this one
    alone = np.asarray(Image.open(io.BytesIO(confusion_png(counted(true, said, classes)))))
    none = np.asarray(Image.open(io.BytesIO(confusion_png(counted(true, true, classes)))))
    if classes > 40:  # beside the overview, the pair
        assert alone.shape[1] > 1.5 * none.shape[1]
        return
    changed = np.argwhere((alone != none).any(axis=2))
    assert len(changed)
    # Only the first row differs: the cell at its right end, and its diagonal.
    assert changed[:, 0].max() < alone.shape[0] / 3


def test_the_most_confused_pairs_come_first() -> None:
    counts = np.diag(np.full(100, 9))
    for pair in range(30):
        counts[pair, 99 - pair] = 30 - pair
    assert _most_confused(counts) == [*range(20), *range(80, 100)]


def test_a_reliability_diagram_is_drawn() -> None:
    found = calibrated([(0.9, True), (0.8, False), (0.3, True)])
    with Image.open(io.BytesIO(reliability_png(found, 2 / 3))) as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
