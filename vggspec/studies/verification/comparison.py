"""How far two nets' outputs differ, in numbers. Pure numpy: nothing here runs a net.

Axes: N images; K classes; h rows and w columns of a score map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.bundle.manifest import Manifest, OutputContract
from vggspec.runtime.session import Arrays

Floats = NDArray[np.floating[Any]]

#: Smaller posteriors count as this one: their logarithm would measure underflow alone.
FLOOR = 1e-30

TOP = 5

#: What the channels of an output are, where they are no classes.
_AXES = {"boxes": "number", "activations": "channel", "distance": "number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The differences between two nets' outputs over a number of images."""

    images: int
    error: float
    """Largest difference of class scores over all outputs, relative to the largest score, or to 1
    if all scores are smaller; of activations relative to the largest of their layer, of distances
    to the largest of them. Posteriors are
    compared by their logarithms, which are the scores up to a constant: a posterior of 1 hides
    differences. Infinite if an output contains NaN or infinity."""

    max_abs: float
    """Largest absolute difference of the main output, which has posteriors or scores; of all
    outputs where they are activations, and so below."""

    mean_abs: float
    """Mean absolute difference of the main output; the largest of them."""

    cosine: float
    """Smallest cosine similarity over the images, of the main output's scores minus their mean."""

    top1: int
    """Images with the same likeliest class. Classes whose reference scores differ by less than
    twice the tolerance are tied: either may be first."""

    top5: int
    """Images with the same five likeliest classes in any order; ties as for ``top1``."""

    tied: int
    """Images that ``top1`` counts only because classes are tied."""

    saturated: int
    """Images whose posteriors in the reference are below ``FLOOR`` for all classes but one, if the
    bundle has no other output: they agree whatever the scores."""

    is_finite: bool
    """Whether all outputs of both nets are finite."""

    errors: dict[str, float]
    """The error of each output, by its name."""

    where: str
    """The position of ``error``: output, image, class, row and column."""

    def merged(self, other: "Figures") -> "Figures":
        """The figures over both sets of images."""
        worse = self if not self.error < other.error else other
        total = self.images + other.images
        mean = (self.mean_abs * self.images + other.mean_abs * other.images) / total
        return Figures(
            images=total,
            error=worse.error,
            max_abs=max(self.max_abs, other.max_abs),
            mean_abs=mean,
            cosine=min(self.cosine, other.cosine),
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            tied=self.tied + other.tied,
            saturated=self.saturated + other.saturated,
            is_finite=self.is_finite and other.is_finite,
            errors={
                name: max(error, other.errors[name], key=_badness)
                for name, error in self.errors.items()
            },
            where=worse.where,
        )


def compare_outputs(
    found: Arrays, expected: Arrays, manifest: Manifest, tolerance: float
) -> Figures:
    """The figures of a batch; ``expected`` are the reference's outputs.

    Raises:
        ValueError: an output is missing, or its shape differs from the reference's.
    """
    for output in manifest.outputs:
        _check_shapes(found, expected, output)
    parts = [
        _part(found[output.name], expected[output.name], output, manifest.labels)
        for output in manifest.outputs
    ]
    result = manifest.result
    is_finite = all(
        np.isfinite(arrays[output.name]).all()
        for output in manifest.outputs
        for arrays in (found, expected)
    )
    error, where = max(parts, key=lambda part: part[0])
    theirs = expected[result.name]
    figures = Figures(
        images=len(theirs),
        error=error,
        max_abs=math.inf,
        mean_abs=math.inf,
        cosine=0.0,
        top1=0,
        top5=0,
        tied=0,
        saturated=_saturated(theirs.astype(np.float64), manifest) if is_finite else 0,
        is_finite=is_finite,
        errors={out.name: part[0] for out, part in zip(manifest.outputs, parts, strict=True)},
        where=where,
    )
    if not is_finite:
        return figures
    has_inner = result.kind == "activations"
    distances = [
        _distances(found[output.name], expected[output.name], output)
        for output in (manifest.outputs if has_inner else [result])
    ]
    max_abs, mean_abs, cosine = zip(*distances, strict=True)
    figures = replace(figures, max_abs=max(max_abs), mean_abs=max(mean_abs), cosine=min(cosine))
    if not manifest.classifies:  # boxes, activations and distances have no likeliest class
        return replace(figures, top1=len(theirs), top5=len(theirs))
    a, b = (_positions(arrays[result.name], result) for arrays in (found, expected))
    margin = 2 * tolerance * _unit(b, result)
    return _ranked(figures, a.mean(axis=2), b.mean(axis=2), margin)


def _distances(
    found: Floats, expected: Floats, output: OutputContract
) -> tuple[float, float, float]:
    """The largest and the mean absolute difference of an output, and its smallest cosine."""
    difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    cosine = _cosine(_positions(found, output), _positions(expected, output))
    return float(difference.max()), float(difference.mean()), cosine


def _positions(values: Floats, output: OutputContract) -> Floats:
    """Scores ``(N, K, h * w)``: the positions of a map are in one axis."""
    return _scores(values.astype(np.float64), output).reshape(*values.shape[:2], -1)


def _check_shapes(found: Arrays, expected: Arrays, output: OutputContract) -> None:
    for arrays, whose in ((found, "the bundle"), (expected, "the reference")):
        if output.name not in arrays:
            raise ValueError(f"{whose} has no output `{output.name}`")
    ours, theirs = found[output.name].shape, expected[output.name].shape
    if ours != theirs:
        raise ValueError(f"`{output.name}` is {ours} in the bundle, {theirs} in the reference")


def _part(
    found: Floats, expected: Floats, output: OutputContract, labels: tuple[str, ...] | None
) -> tuple[float, str]:
    """The error of one output, and its position."""
    for values, whose in ((found, ""), (expected, " in the reference")):
        is_bad = ~np.isfinite(values)
        if is_bad.any():
            at = np.unravel_index(int(np.argmax(is_bad)), values.shape)
            what = "NaN" if np.isnan(values[at]) else "infinite"
            return math.inf, f"{_place(output, at, labels)} is {what}{whose}"
    ours, theirs = (_scores(values.astype(np.float64), output) for values in (found, expected))
    difference = np.abs(ours - theirs)
    at = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return float(difference[at]) / _unit(theirs, output), _place(output, at, labels)


def _saturated(posteriors: Floats, manifest: Manifest) -> int:
    """The number of images whose posteriors hide the scores, if there is no other output."""
    if any(output.kind != "posteriors" for output in manifest.outputs):
        return 0
    others = (posteriors > FLOOR).sum(axis=1) - 1
    # Posteriors are a map if the net does not average over space.
    is_sure = (others == 0).reshape(len(posteriors), -1).all(axis=1)
    return int(is_sure.sum())


def _scores(values: Floats, output: OutputContract) -> Floats:
    """Class scores; for posteriors their logarithms, which are the scores up to a constant."""
    if output.kind != "posteriors":
        return values
    logarithms = np.log(np.maximum(values, FLOOR))
    centred: Floats = logarithms - logarithms.mean(axis=1, keepdims=True)
    return centred


def _unit(scores: Floats, output: OutputContract) -> float:
    """The number that an error of scores is relative to: at least 1, since smaller scores hardly
    change the posteriors. An error of activations is relative to the largest of them, and so is one
    of distances.
    """
    largest = float(np.abs(scores).max())
    is_inner = output.kind in ("activations", "distance")
    return (largest or 1.0) if is_inner else max(largest, 1.0)


def _badness(error: float) -> float:
    return math.inf if math.isnan(error) else error


def _cosine(ours: Floats, theirs: Floats) -> float:
    """Smallest cosine over the images, of scores ``(N, K, h * w)`` minus their mean over K."""
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (ours, theirs))
    a, b = (values.reshape(len(values), -1) for values in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    # Scores that are equal for all classes have no direction.
    cosines = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), 1.0)
    return float(min(cosines.min(), 1.0))


def _ranked(figures: Figures, ours: Floats, theirs: Floats, margin: float) -> Figures:
    """The figures with the agreement of the likeliest classes, from scores ``(N, K)``."""
    k = min(TOP, theirs.shape[1])
    top1 = top5 = tied = 0
    for mine, reference in zip(ours, theirs, strict=True):
        order = np.argsort(-mine, kind="stable")
        descending = np.sort(reference)[::-1]
        is_first = reference[order[0]] >= descending[0] - margin
        top1 += int(is_first)
        tied += int(is_first and int(order[0]) != int(np.argmax(reference)))
        top5 += int(reference[order[:k]].min() >= descending[k - 1] - margin)
    return replace(figures, top1=top1, top5=top5, tied=tied)


def _place(output: OutputContract, at: Sequence[Any], labels: tuple[str, ...] | None) -> str:
    """``score_map, image 0, class 7 (bee), row 2, column 3``."""
    words = [output.name, f"image {at[0]}"]
    index = int(at[1])
    kind = _AXES.get(output.kind, "class")
    is_labelled = labels is not None and kind == "class" and index < len(labels)
    label = f" ({labels[index]})" if labels is not None and is_labelled else ""
    words.append(f"{kind} {index}{label}")
    if len(at) == 4:
        words += [f"row {at[2]}", f"column {at[3]}"]
    return ", ".join(words)
