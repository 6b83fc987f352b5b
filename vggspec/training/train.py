"""``train``: from a spec and images to weights, in one call, on one device or on several.

PyTorch is loaded once the spec is known to be right, so that mistakes are reported without it.
"""

import os
from collections.abc import Sequence
from threading import Event

from vggspec.base.arguments import StrPath, one_or_several
from vggspec.base.diagnostic import ArgumentError
from vggspec.base.launched import is_launched
from vggspec.base.optional import require
from vggspec.base.watcher import SILENT, Watcher
from vggspec.training.progress import TrainResult, as_train_watcher
from vggspec.training.request import (
    SAVE_EVERY_S,
    TrainPrecision,
    TrainRequest,
    Validate,
    changed,
    merged,
    read_target,
)
from vggspec.training.trainable import training_network


def train(
    spec: StrPath,
    *,
    data: StrPath | None = None,
    run: StrPath | None = None,
    resume: bool = False,
    settings: str | Sequence[str] = (),
    weights: StrPath | Sequence[StrPath] = (),
    seed: int | None = None,
    gpus: int | None = None,
    procs: int | None = None,
    workers: int | None = None,
    precision: TrainPrecision | None = None,
    micro_batch: int | None = None,
    compile: bool = False,
    validate: Validate | None = None,
    save_every_s: float = SAVE_EVERY_S,
    keep_every: int | None = None,
    watch: Watcher = SILENT,
    stop: Event | None = None,
) -> TrainResult:
    """Train a net on a folder of images, as ``vggspec train`` does.

    Ctrl-C, SIGTERM and SIGHUP, or setting ``stop``, let the run finish the step at hand, save a
    checkpoint and return a result with ``was_stopped``. A second signal interrupts as usual.

    Args:
        spec: A spec, ``D.vgg`` or ``table1.vgg:D``, or the folder of a run to repeat or resume.
        data: Folder with ``train/<class>/*`` and ``val/<class>/*``, with ``train/*.tar`` and
            ``val/*.tar``, with annotations for a net of boxes, or with masks for a net of label
            maps. None takes the spec's ``data``, else ``$VGGSPEC_DATA``, else ``data``.
        run: Folder of the run, new or empty. None makes ``runs/<net>/<date>-<number>``.
        resume: Continue the run in ``run``, else the run that ``spec`` names, else the net's
            newest. With ``run``, a run that does not exist yet is started.
        settings: A change to the spec's ``train:`` section for this run, ``"rate=0.02"``, or
            several.
        weights: Weights that ``start from`` takes, once for each net that it names. None are those
            of the net's newest run, else ``<net>.safetensors``.
        seed: 0 or more; None is the seed of the run to repeat or resume, else 0.
        gpus: GPUs of this machine to train on, a process on each; 0 for the CPU. None is one GPU
            if there is one.
        procs: Processes to train with on the CPU.
        workers: Processes that decode images, for each training process. None depends on the data.
        precision: The number type of the arithmetic; weights are fp32. None is bf16 if the device
            has units for it.
        micro_batch: Images that a process computes at once; gradients of a batch are added up.
            None is as many as memory allows.
        compile: Use ``torch.compile``.
        validate: Validate on the central crop or densely on the whole image. None is ``"crop"``.
        save_every_s: Seconds between checkpoints; one is also written after each epoch.
        keep_every: Keep the weights of every N epochs.
        watch: Receives progress; a ``TrainWatcher`` also the plan, steps and epochs.
        stop: Stops the run once it is set, from another thread for instance.

    Raises:
        VggspecError: the spec, a setting, the data or a checkpoint has a mistake, the loss is not
            finite, a process is lost, or a file cannot be written.
        MissingLibraryError: PyTorch is not installed, or the device does not exist.
        ArgumentError: both ``procs`` and ``gpus`` are given, a number is out of range, a word is
            none of the choices, or ``spec`` names a folder that is not that of a run, and no spec.
        TypeError: an argument is of the wrong type.
        SystemExit: a signal ended the processes before they could save; or, in a process that a
            launcher started as one of several, another one of them reports the error.
    """
    if procs and gpus:
        raise ArgumentError("`procs` are processes on the CPU, `gpus` on GPUs: give one of them")
    request = TrainRequest(
        spec=os.fspath(spec),
        data=None if data is None else os.fspath(data),
        run=None if run is None else os.fspath(run),
        resume=resume,
        settings=tuple(one_or_several("settings", settings)),
        weights=tuple(os.fspath(path) for path in one_or_several("weights", weights)),
        seed=seed,
        gpus=0 if procs else gpus,
        procs=procs,
        workers=workers,
        precision=precision,
        micro_batch=micro_batch,
        compile=compile,
        validate=validate,
        save_every_s=save_every_s,
        keep_every=keep_every,
    )
    written, begun = read_target(request.spec)
    lowered = changed(written, merged(begun, request.settings))
    training_network(lowered)
    require("torch", "training")
    from vggspec.training.device import check_gpus
    from vggspec.training.launch import launch
    from vggspec.training.run_rank import train_rank

    number = procs or gpus or 1
    watcher = as_train_watcher(watch)
    if number > 1 and not is_launched():
        check_gpus(request.gpus, number)
        return launch(request, number, watcher, stop)
    return train_rank(request, watcher, stop)
