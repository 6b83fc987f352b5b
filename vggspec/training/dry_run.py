"""A dry run: the data looked at, two steps run, and nothing kept but two pictures."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vggspec.base.catalogue.data import Diverged
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.files import refusals
from vggspec.base.watcher import Watcher
from vggspec.compiler.cost import cost
from vggspec.data.contact_sheet import Row, write_sheet
from vggspec.data.decode import Pixels
from vggspec.data.mask import painted
from vggspec.data.masked import Masked
from vggspec.training.batches import Batch, collate
from vggspec.training.data_report import report_for
from vggspec.training.device import SLACK
from vggspec.training.learning_check import against_divergence
from vggspec.training.loop import Training, device_name
from vggspec.training.mixing import mixture
from vggspec.training.order import Ticket
from vggspec.training.rehearsal import (
    full_batches,
    learn,
    loss_of_chance,
    of_each_class,
    pictures_folder,
    rehearsed,
    setting_of,
)
from vggspec.training.rehearsal_results import DryRun, Trial
from vggspec.training.request import TrainRequest

IMAGES, CROPS = "images.png", "crops.png"

SHEET_ROWS = 10
SHEET_CROPS = 7
SHEET_MIXED = 3  # rows, where images are mixed
SHEET_PX = 112
FIRST = slice(SHEET_CROPS)

#: An image of validation takes about this part of one of training, which goes backwards too: twice
#: the arithmetic of the way forward.
VALIDATION = 1 / 3


def dry_run(request: TrainRequest, watch: Watcher) -> DryRun:
    """As ``rehearse.dry_run``."""
    setting = setting_of(request)
    folder = pictures_folder(request.run, setting, "dry-run")
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
    images, crops = folder / IMAGES, folder / CROPS
    found, data = report_for(setting.folder, setting.lowered, images, watch)
    refused: tuple[Report, ...] = found.refused
    trial = None
    if not refused:
        try:
            with rehearsed(setting, watch, data=data) as training:
                batches = full_batches(training)
                batch = next(batches)
                _write_crops(training, batch, crops)
                trial = _tried(training, batch, batches)
        except VggspecError as error:
            refused = error.reports
    return DryRun(
        data=found,
        trial=trial,
        refused=refused,
        images=images,
        crops=crops if trial is not None else None,
    )


def _tried(training: Training, batch: Batch, batches: Iterator[Batch]) -> Trial:
    """Two steps: one gets everything started, the other is timed with the wait for its images."""
    place, stepper, recipe = training.place, training.stepper, training.recipe
    stepper.rate = training.schedule.rate(1, training.state.plateau.rate)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    first = learn(training, batch, 1)
    begun = time.perf_counter()
    batch = next(batches)
    second = learn(training, batch, 2)
    step_s = time.perf_counter() - begun
    if not np.isfinite([first, second]).all():
        advice = against_divergence(training.network, recipe)
        step = 2 if np.isfinite(first) else 1
        raise VggspecError(
            report(Diverged(step=step, rate=stepper.rate, saved=None, advice=advice))
        )
    full = min(recipe.batch, len(training.data.train))
    counted = cost(training.network)
    kept = counted.training_bytes(0, recipe.copies_kept)
    at_a_time = min(training.at_a_time, full)
    epochs = -(-training.last_step // len(training.order))
    validated = VALIDATION * step_s / full * len(training.data.val)
    return Trial(
        device=device_name(place),
        precision=training.precision,
        batch=full,
        at_a_time=at_a_time,
        loss=first,
        loss_of_chance=loss_of_chance(training),
        step_s=step_s,
        steps=training.last_step,
        epochs=epochs,
        seconds=training.last_step * step_s + epochs * validated,
        memory=kept + int(SLACK * at_a_time * counted.kept_bytes),
        measured_memory=torch.cuda.max_memory_allocated(place) if place.type == "cuda" else None,
    )


def _write_crops(training: Training, batch: Batch, path: Path) -> None:
    """Of some images, each of another class as far as there are, the crops of the first epochs,
    under the colours of their labels where they have masks; and images of the first batch, mixed as
    in the first steps, where the recipe mixes them.
    """
    data = training.data
    rows = []
    chosen = of_each_class(data.train.labels)[:SHEET_ROWS]
    if isinstance(data.train, Masked):  # a picture has many classes
        number = min(SHEET_ROWS, len(data.train))
        chosen = [i * len(data.train) // number for i in range(number)]
    for index in sorted(chosen, key=lambda index: int(data.train.labels[index])):
        crops = [training.crops[Ticket(epoch, index)] for epoch in range(1, SHEET_CROPS + 1)]
        drawn = collate(crops)
        pictures = _pictures(training, _inputs(training, drawn))
        name = data.classes[data.train.labels[index]]
        if drawn.masks is not None:
            masks = drawn.masks.numpy()
            pictures = [painted(*pair) for pair in zip(pictures, masks, strict=True)]
            name = "with its mask"
        rows.append(Row(name=name, images=pictures, below=Path(data.train.name(index)).name))
    image = training.input
    for step in range(1, SHEET_MIXED + 1):
        mixed = mixture(training.recipe, (image.height, image.width), training.options.seed, step)
        if mixed is not None and batch.others is not None:
            own, others = (_inputs(training, each.part(FIRST)) for each in (batch, batch.others))
            pictures = _pictures(training, mixed.of(own, others))
            rows.append(Row(name="mixed", images=pictures, below=f"step {step}"))
    title = f"{training.network.name}: crops of {image.width} × {image.height} for training,"
    write_sheet(path, f"{title} a row for each image", rows, side=SHEET_PX)


def _inputs(training: Training, batch: Batch) -> Tensor:
    """A batch as the first layer receives it, ``(N, C, H, W)``."""
    return cast("Tensor", training.normalise(batch))


def _pictures(training: Training, inputs: Tensor) -> list[Pixels]:
    """Inputs of the net with the normalisation undone again.

    A colour shift may leave the range of bytes; it is cut off there.
    """
    normalise = training.normalise
    planes = inputs / normalise.gain[:, None, None] + normalise.mean[:, None, None]
    found = planes.permute(0, 2, 3, 1).round().clamp(0, 255).byte().cpu().numpy()
    return list(found[..., ::-1] if training.input.color == "BGR" else found)
