"""The differences between outputs, without any net."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.compiler.bundling import manifests
from tests.runtime.bundles import make
from vggspec.bundle.manifest import Manifest, OutputContract
from vggspec.studies.verification.comparison import TOP, Figures, compare_outputs

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make(tmp_path_factory.mktemp("any") / "small").manifest


def answer(scores: Any) -> dict[str, Floats]:
    """A net's posteriors and score map, from scores ``(N, K)``."""
    scores = np.asarray(scores, np.float32)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    posteriors = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return {"posteriors": posteriors, "score_map": scores[:, :, None, None]}


SCORES = [[4.0, 1.0, -2.0, 0.0, 3.0], [0.0, 8.0, 2.0, 1.0, -1.0]]


def test_the_same_answers_are_no_error_at_all(manifest: Manifest) -> None:
    found = compare_outputs(answer(SCORES), answer(SCORES), manifest, 1e-4)
    assert (found.images, found.error, found.max_abs, found.mean_abs) == (2, 0, 0, 0)
    assert (found.top1, found.top5, found.tied, found.is_finite) == (2, 2, 0, True)
    assert found.cosine == pytest.approx(1)


def test_the_error_is_relative_to_the_largest_score(manifest: Manifest) -> None:
    other = np.array(SCORES, np.float32)
    other[1, 2] += 0.4
    found = compare_outputs(answer(other), answer(SCORES), manifest, 1e-4)
    assert found.error == pytest.approx(0.4 / 8, rel=0.2)
    assert found.where == "posteriors, image 1, class 2 (cat)"


def test_a_place_of_a_map_is_named(manifest: Manifest) -> None:
    maps, other = np.zeros((2, 2, 5, 3, 4), np.float32)
    other[1, 4, 2, 3] = 1
    alone = replace(manifest, outputs=manifest.outputs[1:])
    found = compare_outputs({"score_map": other}, {"score_map": maps}, alone, 1e-4)
    assert (found.error, found.where) == (1, "score_map, image 1, class 4 (eel), row 2, column 3")


def test_posteriors_of_one_hide_nothing(manifest: Manifest) -> None:
    """Both nets are sure of a class; their posteriors are equal to six digits."""
    alone = replace(manifest, outputs=manifest.outputs[:1])
    sure = np.array([[30.0, 0.0, 1.0, 2.0, 3.0]], np.float32)
    other = sure + np.array([[0, 0, 0, 0, 2.0]], np.float32)
    found = compare_outputs(answer(other), answer(sure), alone, 1e-4)
    assert found.max_abs < 1e-6
    assert found.error > 0.05


def test_posteriors_that_tell_nothing_are_counted(manifest: Manifest) -> None:
    alone = replace(manifest, outputs=manifest.outputs[:1])
    sure = np.array([[200.0, 0, 1, 2, 3], [4, 3, 2, 1, 0]], np.float32)
    found = compare_outputs(answer(sure), answer(sure), alone, 1e-4)
    assert found.saturated == 1
    assert compare_outputs(answer(sure), answer(sure), manifest, 1e-4).saturated == 0


def test_scores_below_one_are_not_enlarged(manifest: Manifest) -> None:
    tiny = np.array(SCORES, np.float32) * 1e-4
    found = compare_outputs(answer(tiny * 1.01), answer(tiny), manifest, 1e-4)
    assert found.error < 1e-5


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("whose", ["the bundle", "the reference"])
def test_what_is_not_finite_fails(manifest: Manifest, bad: float, whose: str) -> None:
    good, broken = answer(SCORES), answer(SCORES)
    broken["score_map"][1, 3] = bad
    pair = (broken, good) if whose == "the bundle" else (good, broken)
    found = compare_outputs(*pair, manifest, 1e9)
    assert not found.is_finite
    assert found.error == math.inf
    assert "score_map, image 1, class 3 (dog)" in found.where
    assert ("in the reference" in found.where) == (whose == "the reference")
    assert found.top1 == 0


def test_classes_that_are_nearly_equal_are_tied(manifest: Manifest) -> None:
    reference = [[1.0, 1.0001, 0.0, -1.0, -2.0]]
    other = [[1.0001, 1.0, 0.0, -1.0, -2.0]]
    found = compare_outputs(answer(other), answer(reference), manifest, 1e-3)
    assert (found.top1, found.tied) == (1, 1)
    found = compare_outputs(answer(other), answer(reference), manifest, 1e-5)
    assert (found.top1, found.tied) == (0, 0)


def test_the_five_likeliest(manifest: Manifest) -> None:
    classes = 8
    many = replace(
        manifest,
        labels=None,
        outputs=(OutputContract(name="scores", kind="scores", channels=classes),),
    )
    reference = np.arange(classes, dtype=np.float32)[None]
    other = reference.copy()
    other[0, 0] = 100
    for answers, agree in ((reference, 1), (other, 0)):
        found = compare_outputs({"scores": answers}, {"scores": reference}, many, 1e-4)
        assert (found.top1, found.top5) == (agree, agree)
    assert classes > TOP


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda outputs: outputs.pop("score_map"), "the bundle has no output `score_map`"),
        (
            lambda outputs: outputs.update(posteriors=outputs["posteriors"][:1]),
            r"`posteriors` is \(1, 5\) in the bundle, \(2, 5\) in the reference",
        ),
    ],
)
def test_outputs_that_differ_in_kind(manifest: Manifest, change: Any, words: str) -> None:
    found = answer(SCORES)
    change(found)
    with pytest.raises(ValueError, match=words):
        compare_outputs(found, answer(SCORES), manifest, 1e-4)


def test_figures_add_up() -> None:
    one = Figures(
        images=1, error=0.1, max_abs=0.2, mean_abs=0.1, cosine=0.9,
        top1=1, top5=1, tied=1, saturated=0, is_finite=True, errors={"a": 0.1}, where="here",
    )  # fmt: skip
    three = replace(one, images=3, error=0.5, mean_abs=0.5, cosine=0.8, top1=2, where="there")
    three = replace(three, errors={"a": 0.5})
    both = one.merged(three)
    assert both == three.merged(one)
    assert (both.images, both.error, both.where) == (4, 0.5, "there")
    assert both.errors == {"a": 0.5}
    assert both.mean_abs == pytest.approx(0.4)
    assert (both.cosine, both.top1, both.top5, both.tied) == (0.8, 3, 2, 2)
    bad = replace(one, error=math.inf, is_finite=False, where="lost")
    assert not both.merged(bad).is_finite
    assert both.merged(bad).where == "lost"


def test_activations_are_compared_output_by_output() -> None:
    """Each relative to its own largest number: a small map is not hidden by a large one."""
    outputs = (
        OutputContract(name="conv1", kind="activations", channels=2, is_map=True),
        OutputContract(name="fc2", kind="activations", channels=3),
    )
    manifest = replace(manifests.onnx(), outputs=outputs)
    expected = {
        "conv1": np.array([[[[900.0]], [[0.0]]]], np.float32),
        "fc2": np.array([[1e-3, 2e-3, 4e-3]], np.float32),
    }
    found = expected | {"fc2": np.array([[1e-3, 2e-3, 3e-3]], np.float32)}
    figures = compare_outputs(found, expected, manifest, 1e-4)
    assert figures.errors == {"conv1": 0.0, "fc2": pytest.approx(0.25)}
    assert figures.error == pytest.approx(0.25)
    assert figures.where == "fc2, image 0, channel 2"
    assert figures.max_abs == pytest.approx(1e-3)
    same = compare_outputs(expected, expected, manifest, 1e-4)
    assert (same.error, same.top1) == (0.0, 1)
    assert same.cosine == pytest.approx(1)
    with pytest.raises(ValueError, match="no output `fc2`"):
        compare_outputs({"conv1": found["conv1"]}, expected, manifest, 1e-4)
