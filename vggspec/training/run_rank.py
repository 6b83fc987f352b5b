"""The work of one training process: alone, or as one of several ranks."""

import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, Literal

from vggspec.base.catalogue.ranks import LostRank
from vggspec.base.catalogue.runs import NoRun
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.run_record import RECORD
from vggspec.base.watcher import SILENT
from vggspec.compiler.lower import Lowered, lower
from vggspec.compiler.results import result_of
from vggspec.lang.loading import as_named
from vggspec.training.changes import changes_of
from vggspec.training.class_weights import class_weights
from vggspec.training.dataset import DataSet, open_data
from vggspec.training.interruption import Stop, handles_signals, stop_on_signals
from vggspec.training.launch import ending_with_launcher, is_launched_here
from vggspec.training.loop import Options, check_validation, fit
from vggspec.training.plan import TrainPlan
from vggspec.training.progress import TrainResult, TrainWatcher
from vggspec.training.ranks import Ranks, joined
from vggspec.training.record import read_record
from vggspec.training.request import (
    TrainRequest,
    changed,
    data_folder,
    is_run,
    merged,
    read_target,
    started_from,
)
from vggspec.training.runs import RUNS, held, named_run, new_run, newest_run
from vggspec.training.start import expected_input, initial_weights, origins, started_metadata


def train_rank(
    request: TrainRequest, watch: TrainWatcher, other_stop: Event | None = None
) -> TrainResult:
    """This process's part of a training; only the first rank reports to ``watch``.

    Raises:
        VggspecError: see ``training.train``.
        MissingLibraryError: the device does not exist.
        SystemExit: another rank, or the launcher, reports why the training ends.
    """
    with joined() as ranks:
        try:
            return _train(request, ranks, watch if ranks.is_first else TrainWatcher(), other_stop)
        except (VggspecError, MissingLibraryError) as error:
            is_lost = isinstance(error, VggspecError) and isinstance(
                error.reports[0].what, LostRank
            )
            if (is_lost and is_launched_here()) or not ranks.speaks():
                raise SystemExit(1) from error
            raise


def _train(
    request: TrainRequest, ranks: Ranks, watch: TrainWatcher, other_stop: Event | None
) -> TrainResult:
    written, begun = read_target(request.spec)
    net = lower(written).network.name
    (old,) = ranks.from_first((_begun_run(request, net),) if ranks.is_first else None)
    if old is not None:
        begun = read_record(old)
    options = options_of(request, begun)
    lowered = changed(written, options.settings)
    check_validation(lowered.network, options.validate)
    where = data_folder(request.data or (begun["data"]["folder"] if begun else None), lowered)
    if not ranks.is_first:
        ranks.sum([0])  # the first one lists shards for all
    share = lowered.experiment.train.validate_on
    data = open_data(where, lowered.network, watch if ranks.is_first else SILENT, share)
    if ranks.is_first:
        ranks.sum([0])
    # An unknown class, or a library that is missing, is found before a folder is made.
    class_weights(lowered, data)
    changes_of(lowered.experiment.train, lowered.network.input.color)
    run = old or ranks.from_first(
        _new_run(lowered, request.run, options.weights) if ranks.is_first else None
    )
    with stop_on_signals(other_stop) as stop, ending_with_launcher(stop):
        with ExitStack() as stack:
            if ranks.is_first:
                watch.begin(_plan(request, lowered, data, run, ranks, options, old=old))
                stack.enter_context(held(run))
            result = fit(
                lowered,
                data,
                run,
                options,
                ranks=ranks,
                is_resumed=old is not None,
                stop=stop,
                watch=watch,
            )
        _end_together(ranks)
        return _completed(request, result, ranks, stop)


def _end_together(ranks: Ranks) -> None:
    """Wait for all ranks, undisturbed."""
    if ranks.size == 1:
        return
    if handles_signals():
        # The launcher sends a signal to the others once one has left, also while they end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    ranks.sum([0])


def _completed(request: TrainRequest, result: TrainResult, ranks: Ranks, stop: Stop) -> TrainResult:
    """The result, completed from the caller's request."""
    spec = request.spec
    if is_run(spec):  # the run that was resumed or repeated
        record = read_record(result.run)
        spec = as_named(f"{record['spec']}:{record['net']}")
    return replace(
        result,
        spec=spec,
        stopped_by=stop.number if result.was_stopped else None,
        is_reported_here=ranks.is_first and (not result.was_stopped or ranks.speaks()),
    )


def _begun_run(request: TrainRequest, net: str) -> Path | None:
    """The run to resume; None for a new run.

    Raises:
        VggspecError: it does not exist.
    """
    if not request.resume:
        return None
    if request.run is not None:
        run = Path(request.run)
        return run if (run / RECORD).is_file() else None
    found = Path(request.spec) if is_run(request.spec) else newest_run(net)
    if found is None:
        raise VggspecError(report(NoRun(reason=f"{RUNS / net}/ has none")))
    return found


def _new_run(lowered: Lowered, run: str | None, weights: Sequence[str]) -> Path:
    """The folder of a new run, made once the weights that it starts from are found and fit.

    Raises:
        VggspecError: they do not, something is in the way, or the system refuses.
    """
    next(initial_weights(lowered, 0, given=weights), None)
    return named_run(Path(run)) if run else new_run(lowered.network.name)


def options_of(request: TrainRequest, record: dict[str, Any] | None) -> Options:
    """The value in the request, else in the record of the run."""
    begun = record["options"] if record else {}
    seed = request.seed
    if seed is None:
        seed = record["seed"] if record else 0
    return Options(
        seed=seed,
        settings=merged(record, request.settings),
        weights=request.weights or started_from(record, request.settings),
        gpus=request.gpus,
        workers=request.workers,
        precision=request.precision or begun.get("precision"),
        micro_batch=request.micro_batch,
        is_compiled=request.compile or bool(begun.get("compile")),
        validate=request.validate or begun.get("validate") or "crop",
        save_every_s=request.save_every_s,
        keep_every=request.keep_every,
    )


def _plan(
    request: TrainRequest,
    lowered: Lowered,
    data: DataSet,
    run: Path,
    ranks: Ranks,
    options: Options,
    *,
    old: Path | None,
) -> TrainPlan:
    net = lowered.network
    begins: Literal["new", "resumed", "nothing to resume"]
    begins = "resumed" if old else "nothing to resume" if request.resume else "new"
    found = origins(lowered, given=options.weights) if old is None else ()
    started = started_metadata(lowered, found) if old is None else None
    wanted = None if started is None else expected_input(net.input, started)
    if wanted is not None and wanted[1] == "spec":
        wanted = None
    return TrainPlan(
        net=net.name,
        weight_layers=len(net.weight_layers),
        parameters=net.parameters,
        input=net.input,
        data=data.root,
        classes=len(data.classes),
        train_images=len(data.train),
        val_images=len(data.val),
        has_boxes=result_of(net) == "boxes",
        recipe=lowered.experiment.train,
        run=run,
        begins=begins,
        ranks=ranks.size,
        notes=data.notes,
        started_from=tuple((origin.net.name, origin.weights) for origin in found),
        expected_input=wanted and wanted[0],
        expected_by=wanted[1] if wanted else "",
    )
