"""The picture of a run, ``curves.png``: loss, error and learning rate, epoch by epoch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import BadFieldError, Fields, parse_object
from vggspec.base.plotting import BLUE, GRAY, GREEN, ORANGE, figure_file, short
from vggspec.base.regular_files import regular
from vggspec.training.progress import Validation, epoch_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = "curves.png"

MOST_POINTS = 1500  # in the curve of single looks; there is no room for more
MOST_DOTS = 40  # one an epoch, while they can be distinguished
MOST_RATES = 12  # labels next to their line
Floats = NDArray[np.float64]


class Line(NamedTuple):
    """A line of a run's log, as far as it is drawn."""

    step: int
    loss: float
    rate: float
    epoch: dict[str, Any] | None
    """All of it, as ``progress.Epoch``, where it is about an epoch."""


def draw(log: Path, out: Path, net: str) -> bool:
    """Draw a run from its log, whole or not at all; False where there is nothing to draw yet.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        VggspecError: the system refuses.
    """
    lines = read_log(log)
    if not lines:
        return False
    with figure_file(out, (8.5, 8), "a picture of the run") as figure:
        _draw(figure, lines, net)
    return True


def read_log(log: Path) -> list[Line]:
    """Read a log, step by step. Incomplete lines are skipped. A resumed run repeats steps; the last
    line of a step counts.
    """
    lines: list[Line] = []
    with open(log, encoding="utf-8", errors="replace", opener=regular) as file:
        for text in file:
            try:
                line = _line(parse_object(text.encode()))
            except BadFieldError:
                continue
            is_epoch = line.epoch is not None
            # An epoch may end at the step of the last report in it.
            while lines and (lines[-1].step, lines[-1].epoch is not None) >= (line.step, is_epoch):
                lines.pop()
            lines.append(line)
    return lines


def _line(now: Fields) -> Line:
    """A line of the log.

    Raises:
        BadFieldError: it is malformed.
    """
    epoch = asdict(epoch_of(now)) if "validation" in now.names() else None
    return Line(now.integer("step"), now.number("loss"), now.number("rate"), epoch)


def _draw(figure: "Figure", lines: Sequence[Line], net: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [line.epoch for line in lines if line.epoch is not None]
    best = next((epoch for epoch in reversed(epochs) if epoch["is_best"]), None)
    # The last epoch may be shorter than the others.
    in_epoch = epochs[0]["step"] // epochs[0]["epoch"] if epochs else 1
    loss, error, rate = figure.subplots(3, sharex=True, height_ratios=[3, 3, 1.7])
    _draw_loss(loss, lines, in_epoch)
    _draw_error(error, epochs, best, in_epoch)
    _draw_rate(rate, lines, in_epoch)
    for panel in (loss, error, rate):
        panel.set_xlim(0, lines[-1].step / in_epoch)
        if best is not None:
            panel.axvline(best["step"] / in_epoch, color=GRAY, lw=1, ls=(0, (4, 3)), clip_on=False)
    rate.set_xlabel(f"epoch ({in_epoch} steps each)" if epochs else "step")
    rate.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    loss.set_title(short(net), loc="left", pad=26, fontsize=14, fontweight="bold")
    above = {"xytext": (0, 8), "textcoords": "offset points"}
    loss.annotate(_summary(best), (0, 1), xycoords="axes fraction", color=GRAY, **above)


def _summary(best: dict[str, Any] | None) -> str:
    if best is None:
        return "no epoch has come to its end"
    result = Validation(**best["validation"]).in_words()
    return f"best validation {result} after epoch {best['epoch']}"


def _draw_loss(axes: "Axes", lines: Sequence[Line], in_epoch: int) -> None:
    steps = np.array([0, *(line.step for line in lines)]) / in_epoch
    losses = np.array([line.loss for line in lines])
    is_epoch = np.array([line.epoch is not None for line in lines])
    # A loss is a mean since the line before, and that of an epoch since the one before.
    middles, means = ((steps[:-1] + steps[1:]) / 2)[~is_epoch], losses[~is_epoch]
    # Single spikes are cut off.
    highest = [np.percentile(means, 99, method="higher")] if len(means) else []
    middles, means = _thinned(middles), _thinned(means)
    if is_epoch.any():
        axes.plot(middles, means, color=BLUE, lw=0.8, alpha=0.45)
        ends = steps[1:][is_epoch]
        _plot(axes, ends - np.diff(ends, prepend=0) / 2, losses[is_epoch], BLUE, "training")
        validated = [line.epoch["validation"]["loss"] for line in lines if line.epoch is not None]
        _plot(axes, ends, np.array(validated), ORANGE, "validation")
        highest += [*losses[is_epoch], *validated]
    else:
        _plot(axes, middles, means, BLUE, "training")
    axes.set_ylim(0, 1.05 * max(highest) or 1)
    axes.set_ylabel("loss")
    _add_legend(axes)


def _draw_error(
    axes: "Axes", epochs: Sequence[dict[str, Any]], best: dict[str, Any] | None, in_epoch: int
) -> None:
    has_scores = bool(epochs) and bool(epochs[0]["validation"]["scores"])
    axes.set_ylabel("validation" if has_scores else "validation error")
    axes.yaxis.set_major_formatter(lambda error, _: f"{100 * error:g}%")
    if not epochs:
        axes.text(0.5, 0.5, "not yet validated", transform=axes.transAxes, ha="center", color=GRAY)
        return
    ends = np.array([epoch["step"] for epoch in epochs]) / in_epoch
    validations = [Validation(**epoch["validation"]) for epoch in epochs]
    tables = [one.scores or one.errors for one in validations]
    for kind, color in zip(validations[0].telling(), (ORANGE, GREEN), strict=False):
        _plot(axes, ends, np.array([table[kind] for table in tables]), color, kind)
    if best is not None:
        place = best["step"] / in_epoch, Validation(**best["validation"]).deciding[1]
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 1.5}
        axes.plot(*place, "o", color=GRAY, label="best", clip_on=False, zorder=3, **ring)
    highest = 1 if has_scores else max(one.error for one in validations)
    axes.set_ylim(0, 1.05 * highest or 1)
    _add_legend(axes)


def _draw_rate(axes: "Axes", lines: Sequence[Line], in_epoch: int) -> None:
    steps = np.array([0, *(line.step for line in lines)]) / in_epoch
    rates = np.array([line.rate for line in lines])
    changes = np.concatenate([[0], np.flatnonzero(np.diff(rates)) + 1])
    begins, values = steps[changes], rates[changes]  # in effect since the line before
    path = np.append(begins, steps[-1]), np.append(values, values[-1])
    axes.step(*path, where="post", color=BLUE, lw=1.8)
    axes.set_yscale("log")
    axes.set_ylim(values.min() / 3, values.max() * 5)
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.minorticks_off()
    axes.set_ylabel("learning rate")
    if len(values) <= MOST_RATES:
        for place in zip(begins, values, strict=True):
            text = f"{place[1]:g}"
            axes.annotate(text, place, (4, 3), textcoords="offset points", color=BLUE, fontsize=9)


def _plot(axes: "Axes", x: Floats, y: Floats, color: str, label: str) -> None:
    dots: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(x) <= MOST_DOTS else {}
    axes.plot(x, y, color=color, lw=1.8, label=label, clip_on=False, **dots)


def _add_legend(axes: "Axes") -> None:
    """Above the panel, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=3)


def _thinned(values: Floats) -> Floats:
    """Means of as many parts as there is room for."""
    if len(values) <= MOST_POINTS:
        return values
    return np.array([part.mean() for part in np.array_split(values, MOST_POINTS)])
