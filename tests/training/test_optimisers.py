"""What a recipe may add to the paper's, against PyTorch's own optimisers and schedules."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tests.nets import net
from tests.training.folders import tiny
from tests.training.test_step import MEAN, batch, filled, stepper
from vggspec.base.recipe import FrozenPart, TrainRecipe
from vggspec.training.batches import Normalise
from vggspec.training.optimisers import WeightMean
from vggspec.training.schedule import RateSchedule

STEPS = 6
PLAIN = replace(tiny(("dropout 0.2", "dropout 0")).experiment.train, batch=8)


def theirs(recipe: TrainRecipe, model: nn.Module) -> torch.optim.Optimizer:
    decay = recipe.weight_decay
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(
            model.parameters(), recipe.rate, betas=recipe.betas, weight_decay=decay
        )
    return torch.optim.SGD(
        model.parameters(),
        recipe.rate,
        recipe.momentum,
        weight_decay=decay,
        nesterov=recipe.nesterov,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"nesterov": True},
        {"optimiser": "adamw", "rate": 1e-3, "weight_decay": 1e-2},
        {"optimiser": "adamw", "betas": (0.8, 0.95), "weight_decay": 0.0},
        {"clip_gradients": 0.01},
        {"clip_gradients": 1e6},
        {"smooth_labels": 0.1},
        {"optimiser": "adamw", "clip_gradients": 0.1, "smooth_labels": 0.3},
    ],
    ids=str,
)
def test_steps_are_those_of_torch(changes: dict[str, object]) -> None:
    lowered = tiny(("dropout 0.2", "dropout 0"))
    recipe = replace(PLAIN, **changes)  # type: ignore[arg-type]
    mine, model = stepper(filled(lowered), recipe), filled(lowered)
    optimiser = theirs(recipe, model)
    normalise = Normalise(model.network.input, MEAN)
    is_clipped = False
    for step in range(1, STEPS + 1):
        one = batch()
        mine(one, 8, step)
        optimiser.zero_grad()
        criterion = nn.CrossEntropyLoss(label_smoothing=recipe.smooth_labels)
        criterion(model(normalise(one)), one.labels).backward()
        if recipe.clip_gradients is not None:
            norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_gradients)
            is_clipped = is_clipped or bool(norm > recipe.clip_gradients)
        optimiser.step()
    assert is_clipped == ((recipe.clip_gradients or 1e6) < 1)
    expected = dict(model.named_parameters())
    for name, parameter in mine.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_mean_of_the_weights_is_that_of_torch() -> None:
    """PyTorch's ``AveragedModel`` with the same factor in each step, its buffers averaged too."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))
    mean = WeightMean(model, 0.5)
    step = 0

    def factor(now: Tensor, new: Tensor, _: Tensor | int) -> Tensor:
        keep = min(0.5, (1 + step) / (10 + step))
        return keep * now + (1 - keep) * new if now.is_floating_point() else new

    averaged = AveragedModel(model, avg_fn=factor, use_buffers=True)
    averaged.update_parameters(model)  # the first call copies
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(1, 15):
        model(torch.randn(6, 3, 8, 8)).square().mean().backward()
        sgd.step()
        sgd.zero_grad()
        mean.update(step)
        averaged.update_parameters(model)
    expected = averaged.module.state_dict()
    before = copy.deepcopy(model.state_dict())
    for name, tensor in mean.tensors.items():
        torch.testing.assert_close(tensor, expected[name], msg=name)
    with mean.in_place():
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(model.eval()(x), averaged.module.eval()(x))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, msg=name)


def rates(recipe: TrainRecipe, last: int, per_epoch: int) -> Iterator[float]:
    schedule = RateSchedule(recipe=recipe, steps_per_epoch=per_epoch, last_step=last)
    return (schedule.rate(step, recipe.rate) for step in range(1, last + 1))


@pytest.mark.parametrize("warm_up", [0, 1, 3])
@pytest.mark.parametrize("schedule", ["plateau", "epochs", "cosine"])
def test_rates_are_those_of_torch(schedule: str, warm_up: int) -> None:
    per_epoch, epochs = 7, 12
    last, warming = per_epoch * epochs, per_epoch * warm_up
    recipe = replace(
        PLAIN, rate=0.3, schedule=schedule, decay=5.0, decay_at=(4, 9), warm_up=warm_up
    )  # type: ignore[arg-type]
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], recipe.rate)
    of = torch.optim.lr_scheduler
    main: of.LRScheduler
    if schedule == "cosine":
        main = of.CosineAnnealingLR(sgd, last - warming)
    elif schedule == "epochs":
        steps = [per_epoch * end - warming for end in recipe.decay_at]
        main = of.MultiStepLR(sgd, steps, 1 / recipe.decay)
    else:
        main = of.ConstantLR(sgd, 1.0, 1)
    if warming:
        warm = of.LinearLR(sgd, 1 / warming, total_iters=warming - 1)
        main = of.SequentialLR(sgd, [warm, main], [warming])
    found = list(rates(recipe, last, per_epoch))
    expected = []
    for _ in range(last):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        main.step()
    assert found == pytest.approx(expected, rel=1e-9)
    assert max(found) == pytest.approx(0.3)


def test_warming_up_begins_above_zero_and_a_cosine_ends_above_it() -> None:
    recipe = replace(PLAIN, rate=1.0, schedule="cosine", warm_up=1)
    found = list(rates(recipe, 20, 5))
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert 0 < found[-1] < 0.02


FROZEN = """\
net frozen
input 16x16 RGB(std 64)
conv3-4(no-bias) BN
conv3-6(no-bias) BN
maxpool
gap
FC-3
soft-max
"""


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("is_norm_frozen", [False, True])
def test_frozen_layers_and_rates_are_those_of_torch(optimiser: str, is_norm_frozen: bool) -> None:
    """Three epochs of two steps: the first block frozen, then nothing; the last layer faster."""
    lowered = net(f"{FROZEN}train:\n  start he\n")
    norms = ("bn1_1", "bn1_2")
    recipe = replace(
        PLAIN,
        optimiser=optimiser,  # type: ignore[arg-type]
        frozen=(FrozenPart(after=0, up_to="relu1_1"), FrozenPart(after=2, up_to=None)),
        freeze_batch_norm=is_norm_frozen,
        rates_of=(("fc2", 5.0),),
    )
    mine, model = stepper(filled(lowered), recipe), filled(lowered)
    assert {layer.name for layer in model.network.layers} >= {*norms, "conv1_1", "relu1_1", "fc2"}
    start = copy.deepcopy(model.state_dict())
    of = dict(model.named_parameters())
    groups: list[dict[str, object]] = [
        {"params": [p for name, p in of.items() if not name.startswith("fc2")]},
        {"params": [p for name, p in of.items() if name.startswith("fc2")], "lr": 5 * recipe.rate},
    ]
    if optimiser == "adamw":
        theirs: torch.optim.Optimizer = torch.optim.AdamW(
            groups, recipe.rate, weight_decay=recipe.weight_decay
        )
    else:
        theirs = torch.optim.SGD(
            groups, recipe.rate, recipe.momentum, weight_decay=recipe.weight_decay
        )
    normalise = Normalise(model.network.input, MEAN)
    for step in range(1, 7):
        epoch = (step + 1) // 2
        frozen = {"conv1_1", "bn1_1"} if epoch < 3 else set()
        frozen |= set(norms) if is_norm_frozen else set()
        mine.begin_epoch(epoch)
        model.train()
        for name, parameter in of.items():
            parameter.requires_grad_(name.split(".")[0] not in frozen)
        for name in frozen & set(norms):
            model.get_submodule(name).eval()
        one = batch()
        mine(one, 8, step)
        theirs.zero_grad()
        nn.functional.cross_entropy(model(normalise(one)), one.labels).backward()
        theirs.step()
        if epoch < 3:
            for name, tensor in mine.model.state_dict().items():
                if name.split(".")[0] in frozen:
                    torch.testing.assert_close(tensor, start[name], rtol=0, atol=0, msg=name)
    expected = model.state_dict()
    for name, tensor in mine.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5, msg=name)
        is_kept = is_norm_frozen and name.split(".")[0] in norms
        assert torch.equal(tensor, start[name]) == is_kept, name
