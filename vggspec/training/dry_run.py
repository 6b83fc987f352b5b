"""A dry run: the data looked at, two steps run, and nothing kept but two pictures."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from vggspec.base.catalogue.data import Diverged
from vggspec.base.diagnostic import Report, VggspecError, report
from vggspec.base.files import refusals
from vggspec.base.watcher import Watcher
from vggspec.compiler.cost import cost
from vggspec.data.contact_sheet import Row, write_sheet
from vggspec.data.decode import Pixels
from vggspec.training.batches import collate
from vggspec.training.data_report import report_for
from vggspec.training.device import SLACK
from vggspec.training.learning_check import against_divergence
from vggspec.training.loop import Training, device_name
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
from vggspec.training.rehearsals import DryRun, Trial
from vggspec.training.request import TrainRequest

if TYPE_CHECKING:
    from vggspec.training.augment import Crop, Unread

IMAGES, CROPS = "images.png", "crops.png"

SHEET_ROWS = 10
SHEET_CROPS = 7
SHEET_PX = 112

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
                _write_crops(training, crops)
                trial = _tried(training)
        except VggspecError as error:
            refused = error.reports
    return DryRun(
        data=found,
        trial=trial,
        refused=refused,
        images=images,
        crops=crops if trial is not None else None,
    )


def _tried(training: Training) -> Trial:
    """Two steps: one gets everything started, the other is timed with the wait for its images."""
    place, stepper, recipe = training.place, training.stepper, training.recipe
    stepper.rate = training.schedule.rate(1, training.state.plateau.rate)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats(place)
    batches = full_batches(training)
    batch = next(batches)
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


def _write_crops(training: Training, path: Path) -> None:
    """Of some images, each of another class as far as there are, the crops of the first epochs."""
    data = training.data
    rows = []
    chosen = of_each_class(data.train.labels)[:SHEET_ROWS]
    for index in sorted(chosen, key=lambda index: int(data.train.labels[index])):
        crops = [training.crops[Ticket(epoch, index)] for epoch in range(1, SHEET_CROPS + 1)]
        pictures = _as_the_net_sees(training, crops)
        name = data.classes[data.train.labels[index]]
        rows.append(Row(name=name, images=pictures, below=Path(data.train.name(index)).name))
    image = training.input
    title = f"{training.network.name}: crops of {image.width} × {image.height} for training,"
    write_sheet(path, f"{title} a row for each image", rows, side=SHEET_PX)


def _as_the_net_sees(training: Training, crops: "list[Crop | Unread]") -> list[Pixels]:
    """Crops as the first layer receives them, with the normalisation undone again.

    A colour shift may leave the range of bytes; it is cut off there.
    """
    batch = collate(crops)
    if not len(batch.labels):
        return []
    normalise: Any = training.normalise
    with torch.inference_mode():
        inputs = normalise(batch) / normalise.gain[:, None, None]
        planes = inputs + normalise.mean[:, None, None]
        found = planes.permute(0, 2, 3, 1).round().clamp(0, 255).byte().cpu().numpy()
    if training.input.color == "BGR":
        found = found[..., ::-1]
    return list(cast("Any", found))
