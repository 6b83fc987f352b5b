"""``compare``: training runs beside one another, their settings, errors and curves."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vggspec.base.arguments import StrPath, one_or_several
from vggspec.base.catalogue.runs import NotARun
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.plotting import BLUE, GRAY, GREEN, ORANGE, figure_file, picture_format, short
from vggspec.base.run_record import RECORD, record_fields
from vggspec.base.short_repr import short_repr
from vggspec.bundle.manifest import MANIFEST
from vggspec.training.curves import Line, read_log
from vggspec.training.progress import Validation
from vggspec.training.record import settings_of
from vggspec.training.runs import LOG

if TYPE_CHECKING:
    from matplotlib.axes import Axes


HUES = (BLUE, ORANGE, GREEN, "#8a5fb0", "#b0413e", "#2a9d9d", "#a67c21", "#c25b97", GRAY)
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))

MOST_LETTERS = 44  # of a run's name in a picture


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """A run, as far as it has come."""

    run: Path
    net: str
    best: Validation | None
    """The result of its best epoch; None before the end of the first one."""

    best_epoch: int | None
    epochs: int
    """Epochs that are over."""

    steps: int
    seconds: float | None
    """Training time, without interruptions; None before the end of the first epoch."""

    is_over: bool
    """Whether it came to the end of its recipe."""


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs beside one another."""

    runs: tuple[ComparedRun, ...]
    settings: Mapping[str, tuple[Any, ...]]
    """The settings that differ, each with its value in every run."""

    is_same_data: bool
    """Whether all runs were validated on the same images, so that errors can be compared."""

    picture: Path | None
    """The file of the learning curves, if they were asked for and a run has any."""

    def as_data(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "runs": [asdict(one) | {"run": str(one.run)} for one in self.runs],
            "settings": {name: list(values) for name, values in self.settings.items()},
            "is_same_data": self.is_same_data,
            "picture": None if self.picture is None else str(self.picture),
        }


def compare(runs: StrPath | Sequence[StrPath], *, out: StrPath | None = None) -> Comparison:
    """Compare training runs: the settings that differ, the best errors, the learning curves.

    Runs that still go on, or were interrupted, are compared as far as they have come.

    Args:
        runs: The folders of two runs or more.
        out: A picture to draw, with the losses and errors of all runs over their epochs: a PNG, PDF
            or SVG file, by its name.

    Raises:
        VggspecError: a folder is not that of a run, its record is damaged, or the system refuses to
            write.
        ArgumentError: there is only one run, one is named twice, or ``out`` ends in another suffix.
        MissingLibraryError: ``out`` is given, and matplotlib is not installed.
    """
    folders = [Path(run) for run in one_or_several("runs", runs)]
    if len(folders) < 2:
        raise ArgumentError("to compare takes two runs or more")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ArgumentError("a run is named twice")
    if out is not None:
        picture_format(out)
    for folder in folders:
        _check_run(folder)
    records = [_record(folder) for folder in folders]
    logs = [read_log(folder / LOG) if (folder / LOG).is_file() else [] for folder in folders]
    compared = tuple(
        _compared(folder, record, log)
        for folder, record, log in zip(folders, records, logs, strict=True)
    )
    picture = None
    if out is not None and any(logs):
        draw([str(folder) for folder in folders], logs, out)
        picture = Path(out)
    prints = {json.dumps(_part(record, "data").get("fingerprint")) for record in records}
    return Comparison(
        runs=compared,
        settings=_differences(records),
        is_same_data=len(prints) == 1,
        picture=picture,
    )


def _check_run(folder: Path) -> None:
    """Check that a folder is that of a run.

    Raises:
        VggspecError: it is something else; the message says what.
    """
    if (folder / RECORD).exists():
        return
    newest = None
    if not folder.exists():
        why = "there is nothing here"
    elif not folder.is_dir():
        why = "it is a file"
    elif (folder / MANIFEST).exists():
        why = "it is a bundle"
    else:
        why = f"it has no {RECORD}"
        below = sorted(folder.glob(f"*/{RECORD}"))
        newest = str(below[-1].parent) if below else None
    raise VggspecError(report(NotARun(reason=why, newest=newest), path=str(folder)))


def _record(folder: Path) -> dict[str, Any]:
    record = record_fields(folder)
    return {key: record.raw(key) for key in record.names()}


def _part(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def _compared(folder: Path, record: Mapping[str, Any], log: Sequence[Line]) -> ComparedRun:
    epochs = [line.epoch for line in log if line.epoch is not None]
    best = next((epoch for epoch in reversed(epochs) if epoch["is_best"]), None)
    result = _part(record, "result")
    seconds = result.get("seconds")
    return ComparedRun(
        run=folder,
        net=str(record.get("net", "")),
        best=None if best is None else Validation(**best["validation"]),
        best_epoch=None if best is None else best["epoch"],
        epochs=len(epochs),
        steps=log[-1].step if log else 0,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        is_over=result.get("was_stopped") is False,
    )


def _differences(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The settings whose values are not the same in all runs; None where a run has none."""
    settings = [settings_of(record) for record in records]
    names = list(dict.fromkeys(name for one in settings for name in one))
    found = {}
    for name in names:
        values = tuple(one.get(name) for one in settings)
        if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            found[name] = values
    return found


def draw(names: Sequence[str], logs: Sequence[Sequence[Line]], out: StrPath) -> None:
    """Draw the losses and the errors of runs over their epochs.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        VggspecError: the system refuses.
    """
    with figure_file(out, (9, 8 + 0.22 * len(names)), "a picture of runs") as figure:
        loss, error = figure.subplots(2, sharex=True)
        for number, (name, log) in enumerate(zip(names, logs, strict=True)):
            style = {
                "color": HUES[number % len(HUES)],
                "ls": DASHES[number // len(HUES) % len(DASHES)],
            }
            label = short(name, MOST_LETTERS, is_path=True)
            _draw_run(loss, error, log, f"{number + 1}  {label}", style)
        loss.set_ylabel("loss: validation, and training (thin)")
        kinds = {kind for log in logs for kind in _deciding_kinds(log)}
        error.set_ylabel(f"validation: {' or '.join(sorted(kinds)) or 'error'}")
        error.set_xlabel("epoch")
        error.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
        for axes in (loss, error):
            axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
        figure.legend(*error.get_legend_handles_labels(), loc="outside upper left")


def _deciding_kinds(log: Sequence[Line]) -> set[str]:
    """What decides which epoch is the best one: the error, or the mean IoU of label maps."""
    epochs = [line.epoch for line in log if line.epoch is not None]
    return {Validation(**epoch["validation"]).deciding[0] for epoch in epochs[:1]}


def _draw_run(
    loss: "Axes", error: "Axes", log: Sequence[Line], label: str, style: dict[str, Any]
) -> None:
    epochs = [line.epoch for line in log if line.epoch is not None]
    if not epochs:  # so that its name is there
        error.plot([], [], label=f"{label} (no epoch yet)", **style)
        return
    in_epoch = max(1, epochs[0]["step"]) / epochs[0]["epoch"]
    ends = np.array([epoch["step"] for epoch in epochs]) / in_epoch
    validations = [Validation(**epoch["validation"]) for epoch in epochs]
    middles = ends - np.diff(ends, prepend=0) / 2
    loss.plot(middles, [epoch["loss"] for epoch in epochs], lw=0.8, alpha=0.7, **style)
    dots: dict[str, Any] = {"marker": "o", "markersize": 3}
    loss.plot(ends, [one.loss for one in validations], lw=1.8, **style, **dots)
    error.plot(ends, [one.deciding[1] for one in validations], lw=1.8, label=label, **style, **dots)
