"""How far a bundle's answers are from those of the same net in fp32: images, figures, verdicts.

Pure numpy: what runs the nets is the caller's business.

Axes: N images, H rows, W columns, C channels; K classes, h rows and w columns of a score map.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.bundle.manifest import Manifest, OutputContract, Precision
from vggspec.bundle.profile import Profile, Shape, choose_profile
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS
from vggspec.runtime.session import Arrays

Floats = NDArray[np.floating[Any]]

#: Unit roundoff: half the distance from 1 to the next number.
ROUNDOFF = {"fp32": 2.0**-24, "tf32": 2.0**-11, "fp16": 2.0**-11, "bf16": 2.0**-8}

DEEPEST = 19  # weight layers of net E, the paper's deepest
LONGEST_SUM = 25_088  # numbers that a unit of fc6 adds up, the longest sum in the paper's nets
SIGMAS = 2.0

#: Posteriors below this are taken for it: their logarithm would tell of underflow alone.
FLOOR = 1e-30

TOP = 5


def default_tolerance(precision: Precision, *, tf32: bool = False) -> float:
    """The largest error (``Figures.error``) that rounding explains.

    A layer rounds what it reads to ``u`` and sums ``n`` products in fp32, whose rounding adds
    ``2**-24 * sqrt(n)``; errors of ``L`` layers are independent and add like a random walk. Two
    standard deviations, with the paper's deepest net and longest sum, so that shallower nets have
    room: ``2 * sqrt(19) * (u + 2**-24 * sqrt(25088))``. That is 8.3e-5 in fp32, 4.3e-3 in fp16 and
    TF32, 3.4e-2 in bf16; net D in fp16 on a CPU was found to err by 6.5e-4. A wrong mean or channel
    order is a matter of tenths.

    >>> [f"{default_tolerance(each):.1e}" for each in ("fp32", "fp16", "bf16")]
    ['8.3e-05', '4.3e-03', '3.4e-02']
    """
    inputs = ROUNDOFF["tf32" if tf32 and precision == "fp32" else precision]
    sums = ROUNDOFF["fp32"] * math.sqrt(LONGEST_SUM)
    return SIGMAS * math.sqrt(DEEPEST) * (inputs + sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How far two nets' outputs are apart, over a number of images."""

    images: int
    error: float
    """The largest over all outputs of: the largest difference of class scores, relative to the
    largest score, or to 1 where all are smaller. Of posteriors their logarithms are compared,
    which are scores up to a constant: a posterior of 1 hides what differs. Infinite where the
    outputs are not finite numbers."""

    max_abs: float
    """Largest difference of the main output: of posteriors, or of scores."""

    mean_abs: float
    cosine: float
    """Of the scores of the main output, their mean taken off; the least over the images."""

    top1: int
    """Images whose likeliest class is the same. Classes whose reference scores are closer than
    twice the tolerance are tied: either of them may be first."""

    top5: int
    """Images whose five likeliest classes are the same, in any order, ties as for ``top1``."""

    tied: int
    """Images counted in ``top1`` only because classes are tied."""

    saturated: int
    """Images whose reference is sure of one class, all others below ``FLOOR``, where the bundle
    gives posteriors alone: they agree whatever the scores."""

    is_finite: bool
    where: str
    """Where ``error`` is: output, image, class and place."""

    def merged(self, other: "Figures") -> "Figures":
        """The figures of both sets of images."""
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
            where=worse.where,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape to run, and the profile that is to run it."""

    profile: int
    point: str
    """``min``, ``opt`` or ``max``, or ``turned``: opt or max with rows and columns exchanged."""

    shape: Shape


def cases(profiles: Sequence[Profile]) -> tuple[Case, ...]:
    """Every profile at min, opt and max, and turned where it holds both orientations.

    Where a shape lies in several profiles, the one that ``choose_profile`` takes is tested with
    it, as it will be in use; each shape is run once.
    """
    found: dict[Shape, Case] = {}
    for profile in profiles:
        turned = [(n, columns, rows) for n, rows, columns in (profile.opt, profile.max)]
        points = [
            ("min", profile.min),
            ("opt", profile.opt),
            ("max", profile.max),
            *(("turned", shape) for shape in turned if profile.holds(shape)),
        ]
        for point, shape in points:
            index = choose_profile(profiles, shape)
            assert index is not None
            found.setdefault(shape, Case(profile=index, point=point, shape=shape))
    return tuple(sorted(found.values(), key=lambda case: case.profile))


def within(cases: Sequence[Case], *, is_engine: bool) -> tuple[Case, ...]:
    """The cases whose made-up images are no more than what a bundle is asked in use.

    A manifest may name any sizes, and images of 65536 × 65536 pixels would take all memory there
    is. ONNX Runtime is never given more than the largest image and its mirror image; an engine was
    built for its profiles on a GPU, so for it what numpy makes of them is bounded alone, to 8 GB.
    """
    most = (16 if is_engine else 2) * MAX_RESCALED_PIXELS
    return tuple(case for case in cases if prod(case.shape) <= most)


def natural_images(shape: Shape, channels: int, seed: int) -> NDArray[np.uint8]:
    """Images ``(N, H, W, C)`` like photographs: large smooth patches, finer ones fainter, a little
    noise; each of the batch is another one.

    Pure noise would mislead: averaged by the first convolutions, it is the same gray to every
    layer above.
    """
    number, rows, columns = shape
    rng = np.random.default_rng((seed, *shape))
    images = np.full((number, rows, columns, channels), 120.0, np.float32)
    side, contrast = 2, 60.0
    while side < min(rows, columns):
        for image in images:
            # Most of a photograph's variation is in its brightness, which all channels share.
            patches = rng.normal(0, 1, (side, side, 1)) + rng.normal(0, 0.4, (side, side, channels))
            image += contrast * _smoothly(patches, (rows, columns))
        side, contrast = 2 * side, contrast / 1.7
    images += rng.normal(0, 4, images.shape)
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def _smoothly(patches: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """A few numbers ``(side, side, C)`` as an image of ``size``, bilinearly."""
    down, across = (_between(patches.shape[0], length) for length in size)
    smooth: NDArray[np.float32] = np.einsum("is,jt,stc->ijc", down, across, patches, optimize=True)
    return smooth


def _between(number: int, length: int) -> NDArray[np.float32]:
    """Weights ``(length, number)`` that interpolate linearly from end to end."""
    places = np.linspace(0, number - 1, length)
    left = np.minimum(places.astype(int), number - 2)
    weights = np.zeros((length, number), np.float32)
    weights[np.arange(length), left] = 1 - (places - left)
    weights[np.arange(length), left + 1] = places - left
    return weights


def compare_outputs(
    found: Arrays, expected: Arrays, manifest: Manifest, tolerance: float
) -> Figures:
    """The figures of a batch; ``expected`` is the reference's answer.

    Raises:
        ValueError: an output is missing or of another shape than the reference's.
    """
    for output in manifest.outputs:
        _check_shapes(found, expected, output)
    parts = [
        _part(found[output.name], expected[output.name], output, manifest.labels)
        for output in manifest.outputs
    ]
    result = manifest.result
    ours, theirs = (arrays[result.name].astype(np.float64) for arrays in (found, expected))
    is_finite = all(
        np.isfinite(arrays[output.name]).all()
        for output in manifest.outputs
        for arrays in (found, expected)
    )
    error, where = max(parts, key=lambda part: part[0])
    figures = Figures(
        images=len(ours),
        error=error,
        max_abs=math.inf,
        mean_abs=math.inf,
        cosine=0.0,
        top1=0,
        top5=0,
        tied=0,
        saturated=_saturated(theirs, manifest) if is_finite else 0,
        is_finite=is_finite,
        where=where,
    )
    if not is_finite:
        return figures
    difference = np.abs(ours - theirs)
    figures = replace(figures, max_abs=float(difference.max()), mean_abs=float(difference.mean()))
    # Positions of a map stand side by side: (N, K, places).
    a, b = (
        values.reshape(len(values), values.shape[1], -1)
        for values in (_scores(ours, result), _scores(theirs, result))
    )
    figures = replace(figures, cosine=_cosine(a, b))
    # A map of boxes has no likeliest class.
    if result.kind not in ("posteriors", "scores"):
        return replace(figures, top1=len(a), top5=len(a))
    return _ranked(figures, a.mean(axis=2), b.mean(axis=2), 2 * tolerance * _unit(b))


def _check_shapes(found: Arrays, expected: Arrays, output: OutputContract) -> None:
    for arrays, whose in ((found, "the bundle"), (expected, "the reference")):
        if output.name not in arrays:
            raise ValueError(f"{whose} gives no `{output.name}`")
    ours, theirs = found[output.name].shape, expected[output.name].shape
    if ours != theirs:
        raise ValueError(f"`{output.name}` is {ours} in the bundle, {theirs} in the reference")


def _part(
    found: Floats, expected: Floats, output: OutputContract, labels: tuple[str, ...] | None
) -> tuple[float, str]:
    """The error of one output, and where it is."""
    for values, whose in ((found, ""), (expected, " in the reference")):
        is_bad = ~np.isfinite(values)
        if is_bad.any():
            at = np.unravel_index(int(np.argmax(is_bad)), values.shape)
            what = "NaN" if np.isnan(values[at]) else "infinite"
            return math.inf, f"{_place(output, at, labels)} is {what}{whose}"
    ours, theirs = (_scores(values.astype(np.float64), output) for values in (found, expected))
    difference = np.abs(ours - theirs)
    at = np.unravel_index(int(np.argmax(difference)), difference.shape)
    return float(difference[at]) / _unit(theirs), _place(output, at, labels)


def _saturated(posteriors: Floats, manifest: Manifest) -> int:
    """How many images' posteriors tell nothing of the scores, where nothing else does."""
    if any(output.kind != "posteriors" for output in manifest.outputs):
        return 0
    others = (posteriors > FLOOR).sum(axis=1) - 1
    # Posteriors are a vector, or, of a net that is not averaged over space, a map.
    is_sure = (others == 0).reshape(len(posteriors), -1).all(axis=1)
    return int(is_sure.sum())


def _scores(values: Floats, output: OutputContract) -> Floats:
    """Class scores: those that are given, or, up to a constant, the posteriors' logarithms."""
    if output.kind != "posteriors":
        return values
    logarithms = np.log(np.maximum(values, FLOOR))
    centred: Floats = logarithms - logarithms.mean(axis=1, keepdims=True)
    return centred


def _unit(scores: Floats) -> float:
    """What an error of scores is relative to. Scores below 1 make almost no difference of
    posteriors, so they are not enlarged.
    """
    return max(float(np.abs(scores).max()), 1.0)


def _cosine(ours: Floats, theirs: Floats) -> float:
    """The least over the images, of scores ``(N, K, places)`` with their mean over K taken off."""
    a, b = (values - values.mean(axis=1, keepdims=True) for values in (ours, theirs))
    a, b = (values.reshape(len(values), -1) for values in (a, b))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    products = (a * b).sum(axis=1)
    # Of two images without any difference between the classes both directions are none.
    cosines = np.where(lengths > 0, products / np.where(lengths > 0, lengths, 1), 1.0)
    return float(min(cosines.min(), 1.0))


def _ranked(figures: Figures, ours: Floats, theirs: Floats, margin: float) -> Figures:
    """The agreement of the likeliest classes, by scores ``(N, K)``."""
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
    kind = "number" if output.kind == "boxes" else "class"
    is_labelled = labels is not None and kind == "class" and index < len(labels)
    label = f" ({labels[index]})" if labels is not None and is_labelled else ""
    words.append(f"{kind} {index}{label}")
    if len(at) == 4:
        words += [f"row {at[2]}", f"column {at[3]}"]
    return ", ".join(words)


def batches_of_one(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The images one at a time: a reference takes less memory so, and images that a batch mixes
    up are found.
    """
    for i in range(len(images)):
        yield images[i : i + 1]


def concatenated(answers: Sequence[Arrays]) -> Arrays:
    """The answers of several batches as that of one."""
    return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
