"""A training that is set up as any other, and leaves nothing behind.

Everything is that of ``loop.Training``: data, crops, model, device, step. Its run folder is a
temporary one.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggspec.base.catalogue.artefacts import InTheWay
from vggspec.base.catalogue.masks import NotRehearsed
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TrainRecipe
from vggspec.base.run_record import RECORD
from vggspec.base.watcher import Watcher
from vggspec.compiler.ir import POSTERIOR_MAP
from vggspec.compiler.lower import Lowered
from vggspec.compiler.results import result_of
from vggspec.training.batches import Batch
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.loop import Options, Training, check_validation
from vggspec.training.objective import Classification
from vggspec.training.ranks import Ranks
from vggspec.training.request import TrainRequest, changed, data_folder, read_target
from vggspec.training.run_rank import options_of
from vggspec.training.runs import RUNS


class Setting(NamedTuple):
    """What a rehearsal is about."""

    lowered: Lowered
    folder: Path
    """Of the images."""

    options: Options


def setting_of(request: TrainRequest) -> Setting:
    """The spec, the folder and the options of a request.

    Raises:
        VggspecError: the spec or a setting has a mistake.
    """
    written, begun = read_target(request.spec)
    options = options_of(request, begun)
    lowered = changed(written, options.settings)
    check_validation(lowered.network, options.validate)
    folder = data_folder(request.data or (begun["data"]["folder"] if begun else None), lowered)
    return Setting(lowered, folder, options)


@contextmanager
def rehearsed(
    setting: Setting, watch: Watcher, *, data: DataSet | None = None
) -> Iterator[Training]:
    """The training, before its first step; it ends with the block.

    Raises:
        VggspecError: the net, the data or the weights to start from cannot be used.
        MissingLibraryError: the device does not exist.
    """
    share = setting.lowered.experiment.train.validate_on
    data = data or open_data(setting.folder, setting.lowered.network, watch, share)
    with ExitStack() as stack:
        run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vggspec-")))
        training = Training(
            setting.lowered, data, run, setting.options, Ranks(), stack, RUNS, is_resumed=False
        )
        with training.workers(can_resume=False):
            yield training


def check_no_maps(setting: Setting, option: str) -> None:
    """Refuse a rehearsal that is for images with classes or boxes.

    Raises:
        VggspecError: the net labels positions.
    """
    if result_of(setting.lowered.network) == POSTERIOR_MAP:
        because = f"it labels positions, and `{option}` is for images with classes or boxes"
        raise VggspecError(
            report(NotRehearsed(because=because), path=f"net {setting.lowered.network.name}")
        )


def with_recipe(setting: Setting, recipe: TrainRecipe) -> Setting:
    """The same with another recipe."""
    experiment = replace(setting.lowered.experiment, train=recipe)
    return setting._replace(lowered=replace(setting.lowered, experiment=experiment))


def full_batches(training: Training) -> Iterator[Batch]:
    """The batches of one epoch after the other, without end; those with fewer images than others
    are left out.

    Raises:
        VggspecError: too many images cannot be read.
    """
    full = min(training.recipe.batch, len(training.data.train))
    training.order.epoch = 0
    while True:
        training.order.epoch += 1
        for (batch,) in training.batches:
            for unread in batch.unread:
                training.left_out.add(unread.name, unread.why)
            if len(batch.labels) + len(batch.unread) == full and len(batch.labels):
                yield batch


def learn(training: Training, batch: Batch, step: int) -> float:
    """A step on a batch, at the rate of the stepper; the mean loss, once the device has it."""
    number = max(1, training.objective.number(batch))
    return float(training.stepper(batch, number, step)) / number


def outputs_of(training: Training, batch: Batch) -> Tensor:
    """What the net gives for a batch as it is, ``(N, channels)``, on the CPU."""
    model, most = training.stepper.model, training.at_a_time
    model.eval()
    found = []
    with torch.inference_mode(), training.stepper.precision():
        for start in range(0, len(batch.labels), most):
            output = model(training.normalise(batch.part(slice(start, start + most))))
            assert isinstance(output, Tensor)
            found.append(output.float().cpu())
    return torch.cat(found)


def of_each_class(labels: NDArray[np.int32]) -> list[int]:
    """The numbers of all images: first one of each class, then a second one, and so on."""
    by_class = np.argsort(labels, kind="stable")
    _, firsts, group = np.unique(labels[by_class], return_index=True, return_inverse=True)
    turns = np.arange(len(labels)) - firsts[group]
    return [int(index) for index in by_class[np.argsort(turns, kind="stable")]]


def loss_of_chance(training: Training) -> float | None:
    """The loss of knowing how often each class comes; None for a net of boxes or of label maps."""
    if not isinstance(training.objective, Classification):
        return None
    counts = np.bincount(training.data.train.labels)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def pictures_folder(out: str | None, setting: Setting, name: str) -> Path:
    """Where a rehearsal writes its pictures: ``out``, else ``runs/<net>/<name>``.

    Raises:
        VggspecError: ``out`` is the folder of a run.
    """
    folder = RUNS / setting.lowered.network.name / name if out is None else Path(out)
    if (folder / RECORD).exists():
        raise VggspecError(report(InTheWay(what="the folder of a run"), path=str(folder)))
    return folder
