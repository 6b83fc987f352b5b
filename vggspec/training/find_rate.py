"""A learning-rate range test: the loss while the rate grows from step to step.

Source: Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3. The rate
grows by a constant factor, as an order of magnitude is what is looked for.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggspec.base.files import refusals
from vggspec.base.optional import has_library
from vggspec.base.plotting import BLUE, GRAY, GREEN, ORANGE, figure_file, short
from vggspec.base.watcher import Progress, Watcher
from vggspec.training.loop import Training
from vggspec.training.rehearsal import (
    full_batches,
    learn,
    loss_of_chance,
    pictures_folder,
    rehearsed,
    setting_of,
)
from vggspec.training.rehearsal_results import RateRange
from vggspec.training.request import TrainRequest

PICTURE = "rate.png"

#: The rates of the test, as multiples of the recipe's.
RANGE = 1e-3, 1e3

#: The test ends when the loss has grown to this multiple of what it was at least.
GROWN = 4.0

#: Standard deviation, in steps of a hundred, of the window by which the loss is smoothed.
SMOOTH = 0.03

#: The suggested rate is this part of the one at which the loss is least: there, steps are already
#: too long for a loss that is to fall on.
PART = 0.1

#: Losses that differ by less than this part of the whole fall are equal: of a flat valley the
#: middle counts, not the point that noise has made the lowest.
EQUAL = 0.02

#: A loss that falls by less than this part has not fallen.
FALLEN = 0.02

Floats = NDArray[np.float64]


def find_rate(request: TrainRequest, steps: int, watch: Watcher) -> RateRange:
    """As ``rehearse.find_rate``."""
    setting = setting_of(request)
    folder = pictures_folder(request.run, setting, "find-rate")
    with rehearsed(setting, watch) as training:
        rates, losses = _tested(training, steps, watch)
        recipe, net = training.recipe, training.network.name
        chance = loss_of_chance(training)
    smoothed = smooth(np.array(losses), max(1.0, SMOOTH * steps))
    suggested, lowest = suggestion(np.array(rates), smoothed)
    picture = folder / PICTURE if has_library("matplotlib") else None
    found = RateRange(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed.tolist()),
        suggested=suggested,
        lowest=lowest,
        diverged=rates[-1] if len(rates) < steps else None,
        rate=recipe.rate,
        optimiser=recipe.optimiser,
        loss_of_chance=chance,
        picture=picture,
    )
    if picture is not None:
        with refusals(folder):
            folder.mkdir(parents=True, exist_ok=True)
        draw(found, picture, net)
    return found


def _tested(training: Training, steps: int, watch: Watcher) -> tuple[list[float], list[float]]:
    """The rates and the losses of the steps, until the loss has grown too far."""
    stepper, rate = training.stepper, training.recipe.rate
    all_rates = np.geomspace(rate * RANGE[0], rate * RANGE[1], steps).tolist()
    rates: list[float] = []
    losses: list[float] = []
    best = mean = math.inf
    for step, batch in enumerate(full_batches(training), start=1):
        stepper.rate = all_rates[step - 1]
        loss = learn(training, batch, step)
        rates.append(stepper.rate)
        losses.append(loss)
        if not math.isfinite(loss):
            break
        recent = losses[-5:]
        mean = sum(recent) / len(recent)
        best = min(best, mean)
        watch.progress(
            Progress(
                doing="testing rates",
                done=step,
                total=steps,
                unit="steps",
                details=(f"rate {stepper.rate:.2g}", f"loss {loss:.3g}"),
            )
        )
        if step == steps or mean > GROWN * best:
            break
    return rates, losses


def smooth(losses: Floats, deviation: float) -> Floats:
    """Means over a Gaussian window, without those that are not finite; no step is lagging."""
    known = losses[np.isfinite(losses)]
    if not len(known):
        return known
    places = np.arange(len(known))
    weights = np.exp(-0.5 * ((places[:, None] - places) / deviation) ** 2)
    return np.asarray(weights @ known / weights.sum(axis=1))


def suggestion(rates: Floats, smoothed: Floats) -> tuple[float | None, float | None]:
    """The rate to train at, and the one at which the loss is least; None if the loss never fell."""
    if not len(smoothed):
        return None, None
    at = int(smoothed.argmin())
    begin = float(smoothed[: max(1, at)].max())
    if at == 0 or smoothed[at] > (1 - FALLEN) * begin:
        return None, None
    in_valley = smoothed <= smoothed[at] + EQUAL * (begin - smoothed[at])
    ends = np.flatnonzero(~in_valley)
    first = ends[ends < at].max(initial=-1) + 1
    last = ends[ends > at].min(initial=len(smoothed)) - 1
    lowest = math.sqrt(float(rates[first] * rates[last]))
    return _rounded(PART * lowest), lowest


def _rounded(rate: float) -> float:
    """A rate with one digit: nothing more is known about it."""
    return float(f"{rate:.0e}")


def draw(found: RateRange, out: Path, net: str) -> None:
    """Draw the loss over the rate.

    Raises:
        MissingLibraryError: matplotlib is not installed.
        VggspecError: the system refuses.
    """
    rates, losses = np.array(found.rates), np.array(found.losses)
    with figure_file(out, (8.5, 5), "the curve of rates") as figure:
        axes = figure.subplots()
        axes.plot(rates, losses, color=BLUE, lw=0.8, alpha=0.45, label="batches")
        axes.plot(
            rates[: len(found.smoothed)], found.smoothed, color=BLUE, lw=1.8, label="smoothed"
        )
        axes.axvline(
            found.rate, color=GRAY, lw=1.2, ls=(0, (4, 3)), label=f"recipe: {found.rate:g}"
        )
        if found.lowest is not None:
            label = f"least loss: {found.lowest:.2g}"
            axes.axvline(found.lowest, color=ORANGE, lw=1.2, ls=(0, (1, 2)), label=label)
        if found.suggested is not None:
            label = f"suggested: {found.suggested:g}"
            axes.axvline(found.suggested, color=GREEN, lw=1.8, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
        highest = 1.3 * float(np.max(found.smoothed[: max(1, len(found.smoothed) // 2)], initial=0))
        axes.set_ylim(0, highest or 1)
        axes.set_xlabel(f"learning rate of {found.optimiser}")
        axes.set_ylabel("loss")
        axes.legend(loc="lower left")
        axes.set_title(short(net), loc="left", fontsize=14, fontweight="bold")
