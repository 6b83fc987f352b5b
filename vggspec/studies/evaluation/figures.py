"""Pictures of an evaluation: the confusion matrix, and a reliability diagram.

Axes: K classes; a row for each true class, a column for each predicted one.
"""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vggspec.base.plotting import BLUE, GRAY, ORANGE, figure_to, short
from vggspec.base.wording import count
from vggspec.studies.evaluation.answers import Tally
from vggspec.studies.evaluation.calibration import Calibration
from vggspec.studies.evaluation.percents import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 40  # classes whose names can be read at a row's height
MOST_NUMBERED = 20  # classes whose counts can be written into the cells
MOST_LETTERS = 22
OVERVIEW_CELLS = 250  # a side; of more classes, a cell shows the largest of several numbers

PURPOSE = "a picture of an evaluation"


def confusion_png(tally: Tally) -> bytes:
    """The confusion matrix as PNG: with names where there is room for them; else an overview, and
    beside it the classes that are confused most.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    classes = sorted({*tally.by_class, *(said for _, said in tally.confusions)})
    shares, counts = _matrix(tally, classes)
    labels = [short(tally.question.labels[i], MOST_LETTERS) for i in classes]
    file = io.BytesIO()
    if len(classes) <= MOST_NAMED:
        side = max(5.0, 0.24 * len(classes) + 3)
        with figure_to(file, (side + 0.8, side), PURPOSE) as figure:
            _draw_named(figure.subplots(), shares, counts, labels)
        return file.getvalue()
    worst = _most_confused(counts)
    with figure_to(file, (21 if worst else 10.5, 11), PURPOSE) as figure:
        whole, *others = figure.subplots(1, 1 + bool(worst), squeeze=False)[0]
        _draw_overview(whole, shares, len(classes))
        for part in others:
            chosen = [labels[i] for i in worst]
            _draw_named(part, shares[np.ix_(worst, worst)], counts[np.ix_(worst, worst)], chosen)
            part.set_title(
                f"{count(len(worst), 'class')}: the pairs that are confused most", loc="left"
            )
    return file.getvalue()


def reliability_png(found: Calibration, accuracy: float) -> bytes:
    """A reliability diagram as PNG, with the number of images at each confidence below it.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    file = io.BytesIO()
    with figure_to(file, (6, 6.6), PURPOSE) as figure:
        upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
        for axes in (upper, lower):
            axes.set_axisbelow(True)
        middles = [(each.low + each.high) / 2 for each in found.bins]
        widths = [0.9 * (each.high - each.low) for each in found.bins]
        right = [each.accuracy for each in found.bins]
        upper.bar(middles, right, widths, color=BLUE, label="right")
        sure = [each.confidence for each in found.bins]
        upper.plot(sure, right, "o", color=ORANGE, ms=4, label="at their mean confidence")
        upper.plot([0, 1], [0, 1], color=GRAY, lw=1, ls=(0, (4, 3)), label="as they should be")
        upper.set_ylim(0, 1)
        upper.set_xlim(0, 1)
        upper.set_ylabel("share that is right")
        upper.legend(loc="upper left")
        title = f"calibration error {percent(found.error)}"
        upper.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=24)
        mean = f"mean confidence {percent(found.confidence)}, {percent(accuracy)} are right"
        upper.annotate(
            mean,
            (0, 1),
            xycoords="axes fraction",
            color=GRAY,
            xytext=(0, 8),
            textcoords="offset points",
        )
        images = [each.images for each in found.bins]
        lower.bar(middles, images, widths, color=GRAY)
        lower.set_ylabel("images")
        lower.set_xlabel("posterior of the class that is named")
    return file.getvalue()


def _matrix(tally: Tally, classes: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Shares of the images of each true class ``(K, K)``, and their numbers."""
    places = {index: place for place, index in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    for index, errors in tally.by_class.items():
        counts[places[index], places[index]] = errors.images - errors.top1
    for (true, said), number in tally.confusions.items():
        counts[places[true], places[said]] = number
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), counts


def _most_confused(counts: NDArray[np.int64]) -> list[int]:
    """The classes of the pairs with the most confusions, either way, in their order."""
    both = np.triu(counts + counts.T, 1)
    chosen: set[int] = set()
    for at in np.argsort(-both, axis=None, kind="stable").tolist():
        pair = {at // len(counts), at % len(counts)}
        if not both.flat[at] or len(chosen | pair) > MOST_NAMED:
            break
        chosen |= pair
    return sorted(chosen)


def _draw_named(
    axes: "Axes", shares: NDArray[np.float64], counts: NDArray[np.int64], labels: Sequence[str]
) -> None:
    number = len(labels)
    _draw_cells(axes, shares)
    size = min(10.0, 320 / max(number, 1))
    axes.set_xticks(range(number), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(number), labels, fontsize=size)
    if number > MOST_NUMBERED:
        return
    for row, column in np.argwhere(counts).tolist():
        color = "white" if shares[row, column] > 0.5 else "black"
        text = str(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size - 2)


def _draw_overview(axes: "Axes", shares: NDArray[np.float64], number: int) -> None:
    by = -(-number // OVERVIEW_CELLS)
    pad = -number % by
    padded = np.pad(shares, ((0, pad), (0, pad)))
    pooled = padded.reshape(len(padded) // by, by, -1, by).max(axis=(1, 3))
    _draw_cells(axes, pooled, extent=(-0.5, by * len(pooled) - 0.5), root=0.25)
    cell = f"; a cell is the largest of {by} × {by} numbers" if by > 1 else ""
    axes.set_title(f"all of {count(number, 'class')}, by their numbers{cell}", loc="left")


def _draw_cells(
    axes: "Axes",
    shares: NDArray[np.float64],
    extent: tuple[float, float] | None = None,
    root: float = 0.4,
) -> None:
    from matplotlib.colors import PowerNorm

    # The root makes one image in a hundred visible, also in small cells.
    around = None if extent is None else (*extent, extent[1], extent[0])
    drawn = axes.imshow(
        shares,
        cmap="Blues",
        norm=PowerNorm(root, 0, 1),
        interpolation="nearest",
        extent=around,
    )
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.6, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
    bar.ax.set_yticklabels(["0", "1 %", "5 %", "20 %", "50 %", "100 %"])
    bar.set_label("of the images of the true class")
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    axes.grid(visible=False)
