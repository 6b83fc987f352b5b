"""What is said of nets that do not learn: when, and only what is not set already."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from tests.nets import net
from tests.refusals import refused
from tests.training.folders import TINY, TO_SHARED_BOXES, tiny, write_folder
from vggspec.compiler.lower import Lowered
from vggspec.training.dataset import open_data
from vggspec.training.learning_check import Learning, against_divergence, against_standstill
from vggspec.training.loop import Options, fit
from vggspec.training.progress import Epoch, Validation

FOUR = np.repeat(np.arange(4, dtype=np.int32), 10)
ONE_CLASS = {"ant": 1.0, "bee": 0.0, "cat": 1.0, "dog": 0.99}


def epoch(loss: float, errors: dict[str, float], number: int = 2, last: int = 9) -> Epoch:
    mean = sum(errors.values()) / len(errors)
    return Epoch(
        step=number,
        last_step=last,
        epoch=number,
        loss=loss,
        validation=Validation(loss=loss, errors={"top-1": mean}, class_errors=errors),
        rate=0.01,
        images_per_s=1.0,
        left_s=1.0,
        is_best=True,
        num_left_out=0,
    )


def learning(lowered: Lowered | None = None, labels: NDArray[np.int32] = FOUR) -> Learning:
    lowered = lowered or tiny()
    return Learning(lowered.network, lowered.experiment.train, labels)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (epoch(1.386, ONE_CLASS), "its loss of 1.386 has not left ln 4 = 1.386"),
        (epoch(1.36, ONE_CLASS), "names one class for every image"),
        (epoch(1.386, ONE_CLASS, number=1), None),  # may be alike at first
        (epoch(1.386, ONE_CLASS, number=1, last=1), "names one class"),  # and there is no more
        (epoch(1.25, ONE_CLASS), None),
        (epoch(1.386, ONE_CLASS | {"cat": 0.9}), None),
        (epoch(0.01, dict.fromkeys(ONE_CLASS, 0.0)), None),
        (epoch(69752.0, ONE_CLASS, number=1), "a loss of 69,752 is that of steps"),
        (epoch(9.0, ONE_CLASS | {"cat": 0.5}), None),
    ],
)
def test_a_net_that_learns_nothing_is_told(now: Epoch, said: str | None) -> None:
    looking = learning()
    text = looking.remark(now)
    assert (said is None) == (text is None)
    assert said is None or said in str(text)
    assert looking.remark(epoch(1.386, ONE_CLASS)) is None or said is None  # once is enough


def test_knowing_how_often_classes_come_is_knowing_nothing() -> None:
    labels = np.array([0] * 90 + [1] * 10, np.int32)
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    errors = {"ant": 0.0, "bee": 1.0}
    text = str(learning(labels=labels).remark(epoch(entropy, errors)))
    assert "0.325, that of knowing how often each class comes" in text
    assert learning(labels=labels).remark(epoch(0.8 * entropy, errors)) is None


def test_a_net_of_boxes_is_not_judged_so() -> None:
    boxes = tiny(TO_SHARED_BOXES)
    assert learning(boxes).remark(epoch(69752.0, ONE_CLASS)) is None
    assert not learning(boxes).has_learned_nothing(epoch(1.386, ONE_CLASS))


def test_advice_never_repeats_what_is_set() -> None:
    bare = net("net bare\ninput 16x16 gray\nconv3-4\nmaxpool\nFC-3\nsoft-max\n")
    recipe = bare.experiment.train
    both = (against_divergence, against_standstill)
    texts = ["\n".join(of(bare.network, recipe)) for of in both]
    assert all("start=he" in text and "`BN`" in text for text in texts)
    assert "--set rate=0.001" in texts[0]
    assert "`gray(std 58)`" in texts[0]
    assert "shallower" not in "".join(texts)
    settled = net("net s\ninput 16x16 gray(std 58)\nconv3-4 BN\nmaxpool\nFC-3\nsoft-max\n")
    he = replace(recipe, start="he", rate=10)
    assert against_divergence(settled.network, he) == ("a lower rate: --set rate=1",)
    assert "start=he" not in "".join(against_standstill(settled.network, he))
    deep = "net deep\ninput 64x64 gray\n" + "conv3-2\n" * 12 + "maxpool\nFC-3\nsoft-max\n"
    of_deep = net(deep).network
    assert "shallower" in "".join(against_standstill(of_deep, recipe))


def test_a_diverged_run_gives_that_advice(tmp_path: Path) -> None:
    lowered = net(TINY.replace("rate 1e-2", "rate 1e3"), "tiny.vgg")
    data = open_data(write_folder(tmp_path / "data", train=3, val=1), lowered.network)
    (tmp_path / "run").mkdir()
    with refused("VGG425") as caught:
        fit(lowered, data, tmp_path / "run", Options(gpus=0))
    assert str(caught.value.reports[0].what.help()).splitlines() == [
        "try",
        "a lower rate: --set rate=100",
        "`BN` after each conv in the spec",
    ]


@pytest.mark.parametrize("weights", [None, (2.0, 0.5, 1.0)])
def test_nothing_is_learned_at_the_least_loss_of_constant_scores(
    weights: tuple[float, ...] | None,
) -> None:
    """There PyTorch's gradient is zero: for unequal classes with weights, and for balanced ones."""
    labels = np.repeat(np.arange(3), [10, 4, 2])
    lowered = tiny()
    plain = lowered.experiment.train
    for recipe in (plain, replace(plain, classes_balanced=True)):
        drawn = np.arange(3) if recipe.classes_balanced else labels
        scores = torch.tensor(np.bincount(drawn) * np.array(weights or 1.0)).log().requires_grad_()
        factors = None if weights is None else torch.tensor(weights, dtype=scores.dtype)
        criterion = nn.CrossEntropyLoss(factors, reduction="sum")
        loss = criterion(scores.expand(len(drawn), 3), torch.tensor(drawn)) / len(drawn)
        (gradient,) = torch.autograd.grad(loss, scores)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)
        ours = Learning(lowered.network, recipe, labels.astype(np.int32), weights)._of_nothing
        assert ours == pytest.approx(loss.item())
