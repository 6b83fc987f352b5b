"""An evaluation against the paper's words, spelled out with PyTorch and numpy."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.runtime.bundles import LABELS, Made, make, weights
from tests.runtime.test_protocol import crops_by_torch, posteriors_by_torch
from tests.studies.evaluation.pictures import write_pictures
from vggspec.base import recipe
from vggspec.base.catalogue.artefacts import NotFinite
from vggspec.base.catalogue.data import TooManyBadImages
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.opening import open_bundle
from vggspec.data.labelled import open_labelled
from vggspec.data.read import read_image
from vggspec.runtime.predictor import Predictor
from vggspec.runtime.preprocess import rescale
from vggspec.studies.evaluation.answers import Errors, Result, Tally, answer, rank, standard_error
from vggspec.studies.evaluation.question import Question, Setting, ask, table

SCALES = (17, 24, 30)
BOTH = recipe.TestProtocol(scales=SCALES, dense=True, crops=3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "data")


def question_of(data: Path, *made: Made, protocol: recipe.TestProtocol = BOTH) -> Question:
    bundles = [open_bundle(each.path) for each in made]
    images = open_labelled(data)
    return ask(bundles, [protocol] * len(bundles), images, device="cpu")[0]


def answers(question: Question) -> list[Result]:
    return list(answer(question, question.indices.tolist()))


def by_torch(made: Made, image: NDArray[np.uint8], scale: int, way: str) -> NDArray[np.float64]:
    """One net's posteriors at one scale, with the mirror image."""
    if way == "crops":
        return crops_by_torch(made, image, scale, 3)
    rescaled = rescale(image, scale)
    return (
        posteriors_by_torch(made, rescaled) + posteriors_by_torch(made, np.fliplr(rescaled))
    ) / 2


def test_every_row_of_the_table_is_what_torch_says(tmp_path: Path, data: Path) -> None:
    made = make(tmp_path / "a"), make(tmp_path / "b", of=weights(1))
    asked = question_of(data, *made)
    question = replace(asked, settings=table(asked.nets))
    found = answers(question)
    assert [one.index for one in found] == list(range(len(question.images)))
    total = np.zeros((len(question.settings), 2), int)
    for one in found:
        image = read_image(question.images.name(one.index), "RGB")
        truth = question.truth(one.index)
        folder = Path(question.images.name(one.index)).parent.name
        assert folder in LABELS[truth]
        expected = torch.stack(
            [_setting_by_torch(setting, made, image) for setting in question.settings]
        )
        order = expected.argsort(dim=1, descending=True, stable=True)
        places = (order == truth).nonzero()[:, 1].tolist()
        assert list(one.ranks) == places
        best = expected[-1].topk(5)
        assert [i for i, _ in one.top] == best.indices.tolist()
        # The same protocol by torch and by ONNX Runtime.
        np.testing.assert_allclose([p for _, p in one.top], best.values.numpy(), atol=1e-5)
        assert one.truth == pytest.approx(float(expected[-1][truth]), abs=1e-5)
        top1 = (expected.topk(1, dim=1).indices != truth).all(dim=1)
        total[:, 0] += top1.numpy()
    tally = tallied(question, found)
    assert [each.top1 for each in tally.settings] == total[:, 0].tolist()
    assert len({each.top1 for each in tally.settings}) > 1  # else the rows are not told apart


def _setting_by_torch(
    setting: Setting, made: tuple[Made, ...], image: NDArray[np.uint8]
) -> torch.Tensor:
    nets = [
        torch.stack(
            [
                torch.from_numpy(by_torch(made[part.net], image, scale, way))
                for scale in part.scales
                for way in part.ways
            ]
        ).mean(dim=0)
        for part in setting.parts
    ]
    return torch.stack(nets).mean(dim=0)


def tallied(question: Question, results: list[Result]) -> Tally:
    tally = Tally(question)
    for result in results:
        tally.add(result)
    return tally


@pytest.mark.parametrize(
    "protocol",
    [
        recipe.TestProtocol(scales=(24,)),
        recipe.TestProtocol(scales=(30, 17), flip=False),
        recipe.TestProtocol(scales=(24, 24), crops=2, dense=False),
        BOTH,
    ],
    ids=["one scale", "no flip", "a scale twice", "both"],
)
def test_a_setting_is_to_the_bit_what_predict_says(
    tmp_path: Path, data: Path, protocol: recipe.TestProtocol
) -> None:
    made = make(tmp_path / "a", test=protocol)
    question = question_of(data, made, protocol=protocol)
    with Predictor(made.path, device="cpu") as predictor:
        for one in answers(question):
            prediction = predictor(question.images.name(one.index))
            assert one.top == tuple(
                (i, float(prediction.posteriors[i])) for i in prediction.ranking(5)
            )
            assert one.truth == float(prediction.posteriors[question.truth(one.index)])
            assert one.ranks == (prediction.ranking(5).index(question.truth(one.index)),)


def test_nothing_depends_on_order_batches_or_threads(tmp_path: Path, data: Path) -> None:
    made = make(tmp_path / "a"), make(tmp_path / "b", of=weights(1))
    question = question_of(data, *made)
    expected = answers(question)
    backwards = answer(question, question.indices.tolist()[::-1])
    assert sorted(backwards, key=lambda one: one.index) == expected
    assert answers(replace(question, batch_pixels=1, threads=1)) == expected
    assert answers(replace(question, batch_pixels=1 << 22, threads=3)) == expected


def test_scores_of_a_net_without_softmax_are_ranked(tmp_path: Path, data: Path) -> None:
    protocol = recipe.TestProtocol(scales=(24,))
    scores, posteriors = make(tmp_path / "scores", kind="scores"), make(tmp_path / "posteriors")
    found = answers(question_of(data, scores, protocol=protocol))
    softmaxed = answers(question_of(data, posteriors, protocol=replace(protocol, flip=False)))
    alone = answers(question_of(data, scores, protocol=replace(protocol, flip=False)))
    assert [one.ranks for one in alone] == [one.ranks for one in softmaxed]
    assert max(value for one in found for _, value in one.top) > 1


@pytest.mark.parametrize("seed", range(20))
def test_the_rank_is_the_place_in_a_stable_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    posteriors = rng.integers(0, 4, 12) / 10  # many are equal
    order = torch.from_numpy(posteriors).argsort(descending=True, stable=True).tolist()
    assert [rank(posteriors, truth) for truth in range(12)] == [order.index(i) for i in range(12)]


def made_up(question: Question, seed: int) -> list[Result]:
    """Results as chance has them, for what is counted."""
    rng = np.random.default_rng(seed)
    found = []
    for index in question.indices.tolist():
        order = rng.permutation(len(question.labels)).tolist()
        place = order.index(question.truth(index))
        top = tuple((i, 1 / (2 + k)) for k, i in enumerate(order[: question.top]))
        found.append(Result(index=index, ranks=(place,), top=top, truth=0.1))
    return found


@pytest.mark.parametrize("classes", [5, 9])
def test_errors_are_counted_by_class_and_by_what_was_said(
    tmp_path: Path, data: Path, classes: int
) -> None:
    question = question_of(data, make(tmp_path / "a"))
    labels = tuple(f"label {i}" for i in range(classes))
    question = replace(question, labels=labels)
    found = made_up(question, seed=classes)
    tally = tallied(question, found)
    truth = np.array([question.truth(one.index) for one in found])
    said = np.array([one.top[0][0] for one in found])
    in_top = np.array([t in [i for i, _ in one.top] for t, one in zip(truth, found, strict=True)])
    (errors,) = tally.settings
    assert errors == Errors(len(found), int((truth != said).sum()), int((~in_top).sum()))
    for i, one in tally.by_class.items():
        mine = truth == i
        expected = Errors(int(mine.sum()), int((said[mine] != i).sum()), int((~in_top[mine]).sum()))
        assert one == expected
    pairs = Counter((int(t), int(s)) for t, s in zip(truth, said, strict=True) if t != s)
    assert tally.confusions == pairs
    backwards = tallied(question, found[::-1])
    assert (backwards.settings, backwards.by_class) == (tally.settings, tally.by_class)
    if classes == 5:
        assert errors.top5_error == 0
    assert Errors().top1_error == 0


def test_the_standard_error_is_that_of_a_proportion() -> None:
    drawn = np.random.default_rng(0).random((20_000, 400)) < 0.2
    assert standard_error(0.2, 400) == pytest.approx(drawn.mean(axis=1).std(), rel=0.02)
    assert standard_error(0.0, 0) == 0


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", 100)
    (data / "val" / "cat" / "3.png").write_bytes(b"no image")
    (data / "val" / "dog" / "5.png").write_bytes(b"")
    protocol = recipe.TestProtocol(scales=(17,), flip=False)
    question = question_of(data, make(tmp_path / "a"), protocol=protocol)
    tally = tallied(question, answers(question))
    assert (tally.images, tally.done) == (398, 400)
    assert [line.split(": ", 1) for line in tally.left_out_names()] == [
        [str(data / "val" / "cat" / "3.png"), "it is not an image"],
        [str(data / "val" / "dog" / "5.png"), "it is empty"],
    ]
    assert tally.by_class[2].images == 99


def test_more_than_one_in_a_hundred_is_an_error(tmp_path: Path) -> None:
    data = write_pictures(tmp_path / "data", 25)
    for i in range(2):
        (data / "val" / "cat" / f"{i}.png").write_bytes(b"")
    protocol = recipe.TestProtocol(scales=(17,), flip=False)
    question = question_of(data, make(tmp_path / "a"), protocol=protocol)
    with pytest.raises(VggspecError) as caught:
        tallied(question, answers(question))
    what = caught.value.reports[0].what
    assert isinstance(what, TooManyBadImages)
    assert (what.bad, what.total) == (2, 100)
    assert [line.split("/")[-1] for line in what.first] == [
        "0.png: it is empty",
        "1.png: it is empty",
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_of_several_nets_the_one_that_fails_is_named(
    tmp_path: Path, data: Path, value: float
) -> None:
    broken: dict[str, Any] = weights(1)
    broken["fc3.bias"] = np.full(5, value, np.float32)
    made = make(tmp_path / "good"), make(tmp_path / "broken", of=broken)
    with pytest.raises(VggspecError) as caught:
        answers(question_of(data, *made))
    (found,) = caught.value.reports
    assert isinstance(found.what, NotFinite)
    assert found.path == str(tmp_path / "broken")
