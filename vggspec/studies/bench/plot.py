"""The picture of a ``bench``: the latency of each candidate at each shape, and of its layers."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vggspec.base.plotting import BLUE, GRAY, GREEN, INK, ORANGE, figure_file, short
from vggspec.base.render import shown
from vggspec.base.wording import count
from vggspec.bundle.profile import BatchShape
from vggspec.studies.bench.layers import LayerTime
from vggspec.studies.bench.result import Bench, Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (BLUE, ORANGE, GREEN, "#8a5bb5", "#b53a4a", "#2a9aa8", "#a8852a", "#c46fa5")
MOST_LETTERS = 34
MOST_WITH_NUMBERS = 4
BAR_INCHES, LAYER_INCHES, PANEL_INCHES = 0.34, 0.11, 0.85
OTHERS = "no layer"


def draw(found: Bench, out: str | os.PathLike[str]) -> None:
    """Draw the measurements: bars are medians, whiskers end at p90.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        VggspecError: the system refuses.
    """
    shapes = found.shapes
    timed = [each for each in found.at(shapes[0]) if each.layers is not None]
    rows = _rows(timed)
    heights = [PANEL_INCHES + BAR_INCHES * len(found.at(shape)) for shape in shapes]
    if timed:
        heights.append(PANEL_INCHES + len(rows) * max(0.19, 0.05 + LAYER_INCHES * len(timed)))
    with figure_file(out, (9, 0.5 + sum(heights)), "a plot") as figure:
        panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        for shape, axes in zip(shapes, panels, strict=False):
            _draw_shape(axes, found, found.at(shape))
            axes.set_title(_title_of(shape), loc="left", fontweight="bold")
        if timed:
            _draw_layers(panels[-1], found, timed, rows)
        conditions = found.conditions
        threads = "" if conditions.threads is None else f", {conditions.threads} threads"
        title = f"{shown(conditions.processor)}, {conditions.processors} processors{threads}"
        if conditions.is_busy:
            title += f": busy with other work (load {conditions.load:.1f})"
        figure.suptitle(title, fontsize=9, color=GRAY, x=0.01, ha="left")


def _color(measured: Measurement) -> str:
    return COLORS[measured.candidate % len(COLORS)]


def _title(found: Bench, measured: Measurement) -> str:
    candidate = found.candidates[measured.candidate]
    name = os.path.basename(candidate.name) or candidate.name
    return f"{short(name, MOST_LETTERS)} on {candidate.device}"


def _draw_shape(axes: "Axes", found: Bench, measured: Sequence[Measurement]) -> None:
    """Bars of the candidates at one shape, the first one above."""
    places = range(len(measured))
    medians = [1e3 * each.median_s for each in measured]
    highs = [1e3 * (each.p90_s or each.seconds[-1]) for each in measured]
    axes.barh(places, medians, 0.68, color=[_color(each) for each in measured])
    axes.hlines(places, medians, highs, color=INK, linewidth=1.2)
    axes.plot(highs, places, "|", color=INK, markersize=8)
    end = max(highs)
    for place, each, high in zip(places, measured, highs, strict=True):
        axes.annotate(
            _figures(found, each), (high, place), (6, 0), textcoords="offset points",
            va="center", fontsize=8.5,
        )  # fmt: skip
    axes.set_yticks(list(places), [_title(found, each) for each in measured])
    axes.set_xlim(0, 1.85 * end)  # the figures stand to the right of the bars
    axes.set_ylim(len(measured) - 0.4, -0.6)
    axes.set_xlabel(f"ms a run: median, and {_whisker(measured)}", fontsize=8.5)
    _plain(axes)


def _whisker(measured: Sequence[Measurement]) -> str:
    if all(each.p90_s is not None for each in measured):
        return "p90 as a whisker"
    return "as a whisker p90, or the longest of fewer than 10 runs"


def _figures(found: Bench, each: Measurement) -> str:
    parts = [_ms(each.median_s), f"{_three(each.images_a_second)} images/s"]
    if each is not found.at(each.shape)[0]:
        parts.append(f"{found.speedup(each):.2f} ×")
    if each.share_of_peak is not None:
        parts.append(f"{each.share_of_peak:.0%} of peak")
    agreement = each.agreement
    if agreement is not None and not agreement.is_same:
        parts.append(
            f"top-1 {agreement.top1}/{agreement.images}"
            if agreement.top1 is not None
            else "not finite"
        )
    return "  ".join(parts)


def _rows(timed: Sequence[Measurement]) -> list[str]:
    """The rows of the layers, in the order of the net: layers that one candidate fuses are a row
    for all, named by the first of them.
    """
    first_of = _first_of(timed)
    rows: list[str] = []
    for each in timed:
        at = 0
        for layer in _layers(each):
            name = first_of[layer.layers[0]]
            if name not in rows:
                rows.insert(at, name)
            at = rows.index(name) + 1
    return [*rows, OTHERS]


def _layers(measured: Measurement) -> Sequence[LayerTime]:
    return () if measured.layers is None else measured.layers.layers


def _first_of(timed: Sequence[Measurement]) -> dict[str, str]:
    """The name of the row of each layer."""
    first_of = {name: name for each in timed for layer in _layers(each) for name in layer.layers}
    for each in timed:
        for layer in _layers(each):
            for name in layer.layers:
                first_of[name] = first_of[layer.layers[0]]
    return {name: first_of[first] for name, first in first_of.items()}


def _draw_layers(
    axes: "Axes", found: Bench, timed: Sequence[Measurement], rows: Sequence[str]
) -> None:
    """Bars of each layer, one for each candidate."""
    thick = 0.8 / len(timed)
    first_of = _first_of(timed)
    for number, each in enumerate(timed):
        layers = each.layers
        assert layers is not None
        seconds, macs = dict.fromkeys(rows, 0.0), dict.fromkeys(rows, 0)
        seconds[OTHERS] = sum(layers.others.values()) + max(0.0, layers.between_s)
        for layer in layers.layers:
            seconds[first_of[layer.layers[0]]] += layer.seconds
            macs[first_of[layer.layers[0]]] += layer.macs
        places = [i + (number - (len(timed) - 1) / 2) * thick for i in range(len(rows))]
        axes.barh(
            places, [1e3 * took for took in seconds.values()], thick, color=_color(each),
            label=_title(found, each),
        )  # fmt: skip
        for place, row in zip(places, rows, strict=True):
            if macs[row] and seconds[row] and len(timed) <= MOST_WITH_NUMBERS:
                axes.annotate(
                    f"{2e-9 * macs[row] / seconds[row]:.0f}", (1e3 * seconds[row], place), (3, 0),
                    textcoords="offset points", va="center", fontsize=7, color=GRAY,
                )  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(f"layers, {_title_of(timed[0].shape)}", loc="left", fontweight="bold", pad=12)
    axes.set_xlabel(
        "ms by the engine's profiler, GFLOP/s beside the bars; fused layers in one row",
        fontsize=8.5,
    )
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=min(len(timed), 2), fontsize=8.5,
        borderaxespad=0.2,
    )  # fmt: skip
    _plain(axes)


def _title_of(shape: BatchShape) -> str:
    number, height, width = shape
    return f"{count(number, 'image')} of {height} × {width}"


def _plain(axes: Any) -> None:
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)


def _ms(seconds: float) -> str:
    return f"{_three(1e3 * seconds)} ms"


def _three(number: float) -> str:
    """About three digits."""
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    return f"{number:,.{digits}f}"
