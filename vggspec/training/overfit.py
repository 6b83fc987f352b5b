"""Whether a net can learn a few images by heart: if not, something is wrong with it."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vggspec.base.watcher import Progress, Watcher
from vggspec.base.wording import count
from vggspec.data.annotated import Examples
from vggspec.training.augment import CentreCrops, Crop, Unread
from vggspec.training.batches import Batch, collate
from vggspec.training.box_crops import CentreBoxCrops
from vggspec.training.dropout import RowDropout
from vggspec.training.images import Images
from vggspec.training.learning_check import against_divergence, against_standstill
from vggspec.training.loop import Training
from vggspec.training.objective import Classification, Localisation
from vggspec.training.order import Ticket
from vggspec.training.rehearsal import (
    check_no_maps,
    learn,
    of_each_class,
    outputs_of,
    rehearsed,
    setting_of,
    with_recipe,
)
from vggspec.training.rehearsal_results import Overfit
from vggspec.training.request import TrainRequest

EVERY = 10  # steps between two looks at what has been learned
SHOWN = 20  # images that are named

#: A loss below this part of its beginning has fallen.
FALLEN = 0.7

#: A loss above this multiple of its beginning is that of steps that were far too large.
GROWN = 10.0

#: A loss below this part of what it was after half of the steps is still falling.
FALLING = 0.9


def overfit(request: TrainRequest, images: int, steps: int, watch: Watcher) -> Overfit:
    """As ``rehearse.overfit``.

    Raises:
        VggspecError: the net labels positions.
    """
    setting = setting_of(request)
    check_no_maps(setting, "--overfit")
    recipe = replace(
        setting.lowered.experiment.train,
        weight_decay=0.0,
        smooth_labels=0.0,
        average_weights=None,
        warm_up=0,
    )
    with rehearsed(with_recipe(setting, recipe), watch) as training:
        for module in training.stepper.model.modules():
            if isinstance(module, RowDropout):
                module.rate = 0.0
        crops, left_out = _crops(training, images)
        return _learned(training, crops, left_out, steps, watch)


def _crops(training: Training, images: int) -> tuple[list[Crop], list[Unread]]:
    """The central crops of as many training images, of as many classes as possible."""
    data, recipe = training.data, training.recipe
    scale = sum(recipe.scale) // 2
    split = Images(data.train, training.input.color, (scale, scale), are_kept=False)
    seen: CentreCrops | CentreBoxCrops
    if isinstance(data.train, Examples):
        seen = CentreBoxCrops(split, data.train, training.input, scale, training.resize)
    else:
        seen = CentreCrops(split, training.input, scale, training.resize)
    found: list[Crop] = []
    left_out: list[Unread] = []
    for index in of_each_class(data.train.labels):
        if len(found) == images:
            break
        crop = seen[Ticket(0, index)]
        if isinstance(crop, Unread):
            left_out.append(crop)
            training.left_out.add(crop.name, crop.why)
        else:
            found.append(crop._replace(row=index))
    return found, left_out


def _learned(
    training: Training, crops: list[Crop], left_out: list[Unread], steps: int, watch: Watcher
) -> Overfit:
    """Train on nothing but these crops, until the net is right on all of them."""
    stepper, names = training.stepper, [crop.row for crop in crops]
    number = -(-len(crops) // training.recipe.batch)
    parts = np.array_split(np.arange(len(crops)), number)
    batches = [
        collate([crops[i]._replace(row=row) for row, i in enumerate(part)]) for part in parts
    ]
    stepper.rate = training.recipe.rate
    loss, wrong = _looked(training, batches)
    losses, errors = [loss], [float(wrong.mean())]
    done, diverged = 0, not math.isfinite(loss)
    every = EVERY * len(batches) if len(batches) < EVERY else len(batches)
    while wrong.any() and done < steps and not diverged:
        batch = batches[done % len(batches)]
        done += 1
        stepper.begin_epoch(1)  # looking at them took the mode of evaluation
        learn(training, batch, done)
        if done % every and done < steps:
            continue
        loss, wrong = _looked(training, batches)
        losses.append(loss)
        errors.append(float(wrong.mean()))
        diverged = not math.isfinite(loss)
        right = f"{len(wrong) - int(wrong.sum())} of {count(len(wrong), 'image')} right"
        detail = (right, f"loss {loss:.3g}")
        watch.progress(
            Progress(doing="learning", done=done, total=steps, unit="steps", details=detail)
        )
    data = training.data
    has_learned = not wrong.any() and not diverged
    diverged = diverged or (not has_learned and losses[-1] > GROWN * losses[0])
    still = [names[i] for i in np.flatnonzero(wrong).tolist()][:SHOWN]
    return Overfit(
        images=len(crops),
        classes=len({crop.label for crop in crops}),
        has_learned=has_learned,
        steps=done,
        rate=training.recipe.rate,
        losses=tuple(losses),
        errors=tuple(errors),
        wrong=tuple(f"{data.train.name(i)}: {data.classes[data.train.labels[i]]}" for i in still),
        diverged=diverged,
        advice=() if has_learned else _advice(training, losses, diverged=diverged),
        left_out=tuple(f"{one.name}: {one.why}" for one in left_out),
    )


def _looked(training: Training, batches: list[Batch]) -> tuple[float, NDArray[np.bool_]]:
    """The mean loss, and for each image whether the net is wrong."""
    loss, wrong = 0.0, []
    objective = training.objective
    assert isinstance(objective, Classification | Localisation), "label maps are refused before"
    for batch in batches:
        outputs = outputs_of(training, batch)
        loss += float(objective.loss(outputs, batch))
        wrong.append(objective.wrong(outputs, batch)[objective.errors[0]].numpy())
    found = np.concatenate(wrong)
    return loss / len(found), found


def _advice(training: Training, losses: list[float], *, diverged: bool) -> tuple[str, ...]:
    network, recipe = training.network, training.recipe
    if diverged:
        return against_divergence(network, recipe)
    if losses[-1] < FALLEN * losses[0]:
        in_two = "look at the images that are wrong: `vggspec data` finds those in two classes"
        if losses[-1] < FALLING * losses[len(losses) // 2]:
            return ("more steps, with --steps: the loss is still falling", in_two)
        return (in_two, f"a lower rate: --set rate={recipe.rate / 10:g}")
    return ("the rate that --find-rate suggests", *against_standstill(network, recipe))
