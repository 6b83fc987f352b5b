"""Before hours are spent: ``dry_run``, ``overfit`` and ``find_rate``.

Each sets up a training as ``train`` does, on one device, runs a few steps of it, and keeps nothing
but what it reports. PyTorch is loaded once the spec is known to be right.
"""

import os
from collections.abc import Sequence

from vggspec.base.arguments import StrPath, check_whole, one_or_several
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.optional import require
from vggspec.base.watcher import SILENT, Watcher
from vggspec.training.rehearsal_results import DryRun, Overfit, RateRange
from vggspec.training.request import (
    TrainPrecision,
    TrainRequest,
    changed,
    merged,
    read_target,
)
from vggspec.training.trainable import training_network

LEAST_STEPS = 20  # of a range of rates


def dry_run(
    spec: StrPath,
    *,
    data: StrPath | None = None,
    out: StrPath | None = None,
    settings: str | Sequence[str] = (),
    weights: StrPath | Sequence[StrPath] = (),
    seed: int | None = None,
    gpus: int | None = None,
    workers: int | None = None,
    precision: TrainPrecision | None = None,
    micro_batch: int | None = None,
    watch: Watcher = SILENT,
) -> DryRun:
    """Look at the data of a training, run two of its steps, and estimate its time and memory.

    Nothing is trained and no run is begun. Two pictures are written: some images of each class, and
    the crops that training would make of some images, drawn by the same code. What training would
    refuse is in the result, not an error, so that all of it is found at once.

    Args:
        spec: A spec, or the folder of a run to repeat.
        data: The folder of the images, as for ``train``.
        out: The folder for the pictures; None is ``runs/<net>/dry-run``.
        settings: A change to the spec's ``train:`` section, ``"rate=0.02"``, or several.
        weights: Weights that ``start from`` takes.
        seed: As for ``train``; the crops are those of that seed.
        gpus: 0 for the CPU, 1 for a GPU; None is a GPU if there is one.
        workers: Processes that decode images. None depends on the data.
        precision: The number type of the arithmetic.
        micro_batch: Images that are computed at once.
        watch: Receives the progress.

    Raises:
        VggspecError: the spec or a setting has a mistake, there are no images, or a file cannot be
            written.
        MissingLibraryError: PyTorch is not installed, or the device does not exist.
        ArgumentError: ``gpus`` is above 1, another number is out of range, or ``spec`` names a
            folder that is not that of a run, and no spec.
    """
    request = _request(
        spec, data, out, settings, weights, seed, gpus, workers, precision, micro_batch
    )
    from vggspec.training.dry_run import dry_run

    return dry_run(request, watch)


def overfit(
    spec: StrPath,
    images: int,
    *,
    steps: int = 300,
    data: StrPath | None = None,
    settings: str | Sequence[str] = (),
    weights: StrPath | Sequence[StrPath] = (),
    seed: int | None = None,
    gpus: int | None = None,
    precision: TrainPrecision | None = None,
    micro_batch: int | None = None,
    watch: Watcher = SILENT,
) -> Overfit:
    """Train on nothing but a few images, to see whether a net can learn them by heart.

    The images are of as many classes as possible. They are not varied: their central crops, the
    same each time, without dropout, weight decay, smoothed labels or averaged weights, at the
    recipe's rate. It ends when the net is right on all of them, when the loss is not finite, or
    after ``steps``. A net that cannot learn ten images will not learn ten thousand: the rate, the
    initial weights or the labels are wrong.

    Args:
        spec: A spec, or the folder of a run to repeat.
        images: How many images, at most those that there are.
        steps: The most steps to train.
        data: The folder of the images, as for ``train``.
        settings: A change to the spec's ``train:`` section, ``"rate=0.02"``, or several.
        weights: Weights that ``start from`` takes.
        seed: As for ``train``.
        gpus: 0 for the CPU, 1 for a GPU; None is a GPU if there is one.
        precision: The number type of the arithmetic.
        micro_batch: Images that are computed at once.
        watch: Receives the progress.

    Raises:
        VggspecError: the spec, a setting or the data has a mistake.
        MissingLibraryError: PyTorch is not installed, or the device does not exist.
        ArgumentError: ``images`` or ``steps`` is not positive, ``gpus`` is above 1, another number
            is out of range, or ``spec`` names a folder that is not that of a run, and no spec.
        TypeError: an argument is of the wrong type.
    """
    check_whole("images", images, least=1)
    check_whole("steps", steps, least=1)
    request = _request(spec, data, None, settings, weights, seed, gpus, 0, precision, micro_batch)
    from vggspec.training.overfit import overfit

    return overfit(request, images, steps, watch)


def find_rate(
    spec: StrPath,
    *,
    steps: int = 100,
    data: StrPath | None = None,
    out: StrPath | None = None,
    settings: str | Sequence[str] = (),
    weights: StrPath | Sequence[StrPath] = (),
    seed: int | None = None,
    gpus: int | None = None,
    workers: int | None = None,
    precision: TrainPrecision | None = None,
    micro_batch: int | None = None,
    watch: Watcher = SILENT,
) -> RateRange:
    """Find a learning rate: train for a few steps, each at a higher rate than the one before.

    The rates go from a thousandth to a thousand times that of the recipe. The test ends early when
    the loss has grown to four times what it was at least. Suggested is a tenth of the rate at which
    the smoothed loss was least (Smith 2017, section 3.3). If the loss never falls below that of
    chance, ``has_learned`` is False, and the suggestion is a guess.

    Args:
        spec: A spec, or the folder of a run to repeat.
        steps: How many steps, at least 20.
        data: The folder of the images, as for ``train``.
        out: The folder for the curve; None is ``runs/<net>/find-rate``.
        settings: A change to the spec's ``train:`` section, ``"rate=0.02"``, or several.
        weights: Weights that ``start from`` takes.
        seed: As for ``train``.
        gpus: 0 for the CPU, 1 for a GPU; None is a GPU if there is one.
        workers: Processes that decode images. None depends on the data.
        precision: The number type of the arithmetic.
        micro_batch: Images that are computed at once.
        watch: Receives the progress.

    Raises:
        VggspecError: the spec, a setting or the data has a mistake, or the curve cannot be written.
        MissingLibraryError: PyTorch is not installed, or the device does not exist.
        ArgumentError: ``steps`` is below 20, or as for ``overfit``.
        TypeError: an argument is of the wrong type.
    """
    check_whole("steps", steps, least=LEAST_STEPS)
    request = _request(
        spec, data, out, settings, weights, seed, gpus, workers, precision, micro_batch
    )
    from vggspec.training.find_rate import find_rate

    return find_rate(request, steps, watch)


def _request(
    spec: StrPath,
    data: StrPath | None,
    out: StrPath | None,
    settings: str | Sequence[str],
    weights: StrPath | Sequence[StrPath],
    seed: int | None,
    gpus: int | None,
    workers: int | None,
    precision: TrainPrecision | None,
    micro_batch: int | None,
) -> TrainRequest:
    """The request, once the spec is known to be right and PyTorch to be there."""
    check_whole("gpus", gpus, least=0)
    if gpus is not None and gpus > 1:
        raise ArgumentError("a rehearsal runs on one device: `gpus` is 0 or 1")
    request = TrainRequest(
        spec=os.fspath(spec),
        data=None if data is None else os.fspath(data),
        run=None if out is None else os.fspath(out),
        settings=tuple(one_or_several("settings", settings)),
        weights=tuple(os.fspath(path) for path in one_or_several("weights", weights)),
        seed=seed,
        gpus=gpus,
        workers=workers,
        precision=precision,
        micro_batch=micro_batch,
    )
    written, begun = read_target(request.spec)
    lowered = changed(written, merged(begun, request.settings))
    training_network(lowered)
    require("torch", "training")

    return request
