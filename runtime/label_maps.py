"""A label for each pixel of an image, by a net that gives posteriors of each position.

The image is rescaled to each Q, the net's map is interpolated at the pixels of the image, and
posteriors are averaged over scales and mirror images. Where the map of a net without padding does
not reach the edges, or its branches do not meet for the image's size, the image is continued by its
mirror image (Ronneberger et al. 2015, section 3, "overlap-tile strategy").

A large image is computed in tiles. A tile begins where the grids of all layers begin again, and is
as much larger than what is taken from it as a position sees, so that its positions have the numbers
of the whole.

Axes: N images, H rows and W columns of pixels, C channels, K classes, h rows and w columns of a
map. Coordinates are pixels, 0 in the middle of the first one; pairs are (rows, columns).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import RunFailed
from vggspec.base.catalogue.label_maps import NoRoomForTile, PosteriorsTooLarge
from vggspec.base.diagnostic import ArgumentError, VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.base.short_repr import short_repr
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.sizes import Remainders
from vggspec.runtime.net import BundleNet
from vggspec.runtime.preprocess import rescalings
from vggspec.runtime.protocol import Size

WHOLE_PIXELS = 1 << 21
"""Of a rescaled image that is computed at once, unless a tile is given: the first layer of D then
takes 0.5 GiB."""

TILE_SIDE = 1024
"""Pixels of the rescaled image that are taken from a tile of a larger one, each way."""

MAX_PIXELS = 1 << 28
"""Of a rescaled image; it is in memory as a whole."""

MAX_POSTERIORS = 1 << 30
"""Bytes of the posteriors of one image, where they are kept."""

MAP_BYTES = 1 << 29
"""Of the maps of a tile, at all scales and of mirror images."""

STRIP_BYTES = 1 << 26
"""Of posteriors at the pixels of the image, a few rows at a time."""

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True)
class LabelMap:
    """The likeliest class of each pixel of an image."""

    labels: NDArray[np.uint8] | NDArray[np.uint16]
    """``(H, W)``, the number of the likeliest class; uint16 for more than 256 classes."""

    confidence: Floats
    """``(H, W)``, its posterior."""

    posteriors: Floats | None = None
    """``(K, H, W)``, sum 1 at each pixel; None unless they were asked for."""


def segment(
    net: BundleNet,
    image: Pixels,
    protocol: TestProtocol,
    *,
    tile: int | None = None,
    keep_posteriors: bool = False,
) -> LabelMap:
    """The label of each pixel of an image ``(H, W, C)``.

    ``tile`` is how many pixels of the rescaled image are taken from a tile, each way; None computes
    images of up to ``WHOLE_PIXELS`` at once and larger ones in tiles of 1024, and fewer pixels of
    nets of many classes. Tiles change the
    memory and the time, and not the result, but for the last bits of the engine's arithmetic.

    Raises:
        VggspecError: the engine fails; the rescaled image, or all posteriors, are too large; or the
            net takes one size, of which nothing is left without what a position sees beyond.
        ArgumentError: ``tile`` is not positive.
    """
    if tile is not None and tile < 1:
        raise ArgumentError(f"a tile has at least 1 pixel each way, not {tile}")
    size, classes = (image.shape[0], image.shape[1]), net.manifest.result.channels
    if keep_posteriors and 4 * classes * size[0] * size[1] > MAX_POSTERIORS:
        raise VggspecError(
            report(PosteriorsTooLarge(classes=classes, width=size[1], height=size[0]))
        )
    axes = _axes(net.manifest)
    at_scales = list(rescalings(image, protocol.scales, protocol.resize, most=MAX_PIXELS))
    rows, columns = zip(*(one.shape[:2] for one in at_scales), strict=True)
    labels = np.zeros(size, np.uint8 if classes <= 1 << 8 else np.uint16)
    confidence = np.zeros(size, np.float32)
    kept = np.zeros((classes, *size), np.float32) if keep_posteriors else None
    looks = len(at_scales) * (2 if protocol.flip else 1)
    most = MAP_BYTES // (4 * classes * looks) * axes[0].stride * axes[1].stride
    for region in _regions(axes, size, (max(rows), max(columns)), tile, most):
        seen = [_see(net, axes, rescaled, size, region) for rescaled in at_scales]
        if protocol.flip:
            mirrored = region.mirrored(size[1])
            turned = (_see(net, axes, rescaled[:, ::-1], size, mirrored) for rescaled in at_scales)
            seen += [replace(one, is_mirrored=True) for one in turned]
        columns_here = region.columns
        step = max(1, STRIP_BYTES // (4 * classes * region.size[1]))
        for top in range(region.rows.start, region.rows.stop, step):
            strip = slice(top, min(top + step, region.rows.stop))
            inside = slice(strip.start - region.rows.start, strip.stop - region.rows.start)
            total = seen[0].posteriors(inside)
            for one in seen[1:]:
                total += one.posteriors(inside)
            total /= looks
            labels[strip, columns_here] = total.argmax(axis=0)
            confidence[strip, columns_here] = total.max(axis=0)
            if kept is not None:
                kept[:, strip, columns_here] = total
    return LabelMap(labels=labels, confidence=confidence, posteriors=kept)


@dataclass(frozen=True, slots=True)
class _Region:
    """A rectangle of the image's pixels."""

    rows: slice
    columns: slice

    @property
    def size(self) -> Size:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def mirrored(self, width: int) -> "_Region":
        return _Region(self.rows, slice(width - self.columns.stop, width - self.columns.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """How the positions of a map lie along one axis of an image, and which sizes the net takes."""

    place: float
    stride: int
    margin: int
    """Pixels by which the image is continued at each edge."""

    period: int
    """Pixels by which an image may be moved so that every layer's grid moves by whole positions."""

    before: int
    """Pixels that a position sees before its place."""

    after: int
    least: int
    is_fixed: bool
    sizes: Remainders | None

    @property
    def most_taken(self) -> int:
        """Pixels that can be taken from a tile of a net of one size."""
        return self.least - self.before - self.after - self.period - self.stride

    def fitting(self, number: int) -> int:
        """The smallest size from ``number`` on that the net takes; of one size, that one."""
        at_least = max(number, self.least)
        return self.sizes.above(at_least) if self.sizes else at_least


def _axes(manifest: Manifest) -> tuple[_Axis, _Axis]:
    """How the posterior map of a bundle lies in an image, rows and columns."""
    contract, position = manifest.input, manifest.result.position
    assert position is not None
    assert position.place is not None
    place, start, window = position.place, position.start, position.window
    rows, columns = (
        _Axis(
            place=place[i],
            stride=position.stride[i],
            margin=position.margin[i],
            period=manifest.stride[i],
            before=ceil(place[i]) - start[i],
            after=start[i] + window[i] - 1 - floor(place[i]),
            least=contract.size[i],
            is_fixed=not contract.is_dynamic,
            sizes=None if contract.sizes == "any" else contract.sizes.axes[i],
        )
        for i in (0, 1)
    )
    return rows, columns


def _regions(
    axes: tuple[_Axis, _Axis], size: Size, rescaled: Size, tile: int | None, most: int
) -> Iterator[_Region]:
    """The parts of an image that are computed one after the other; ``rescaled`` is the largest
    size to which it is rescaled, and ``most`` are the pixels of it whose maps memory takes.

    Raises:
        VggspecError: the net takes one size, and nothing can be taken from a tile of it.
    """
    is_whole = tile is None and rescaled[0] * rescaled[1] <= min(WHOLE_PIXELS, most)
    largest = max(1, min(TILE_SIDE, isqrt(most)))
    steps = []
    for axis, side, number in zip(axes, size, rescaled, strict=True):
        taken = number if is_whole else tile or largest
        if axis.is_fixed and number + 2 * axis.margin > axis.least:
            taken = min(taken, axis.most_taken)
        if taken < 1:
            seen = axis.before + axis.after + 1
            raise VggspecError(report(NoRoomForTile(side=axis.least, seen=seen)))
        steps.append(max(1, taken * side // number))
    for top in range(0, size[0], steps[0]):
        for left in range(0, size[1], steps[1]):
            bottom, right = min(top + steps[0], size[0]), min(left + steps[1], size[1])
            yield _Region(slice(top, bottom), slice(left, right))


@dataclass(frozen=True, slots=True)
class _Span:
    """What is computed along one axis for some pixels, and what of the map belongs to them."""

    start: int
    """Where the tile begins in the rescaled image; negative in what continues it."""

    length: int
    at: NDArray[np.float64]
    """The position in the tile's map at which each pixel lies, not yet bounded by its ends."""


def _span(axis: _Axis, pixels: slice, side: int, rescaled: int) -> _Span:
    """The tile along one axis for pixels of an image of ``side`` pixels, ``rescaled`` at Q."""
    margin = axis.margin
    # In pixels of the image that is continued at both edges, so that the net takes it.
    places = (np.arange(pixels.start, pixels.stop) + 0.5) * (rescaled / side) - 0.5 + margin
    total = axis.fitting(rescaled + 2 * margin)
    first, last = (
        axis.place + axis.stride * rounded((places[i] - axis.place) / axis.stride)
        for i, rounded in ((0, floor), (-1, ceil))
    )
    start = max(0, floor(first) - axis.before) // axis.period * axis.period
    end = min(total, ceil(last) + axis.after + 1)
    length = axis.least if axis.is_fixed else axis.fitting(end - start)
    if start + length > total:
        # Sizes that fit differ by whole periods, and the whole fits.
        back = max(0, ceil((axis.least - (total - start)) / axis.period)) * axis.period
        start = max(0, start - back)
        length = axis.least if axis.is_fixed else total - start
    return _Span(start - margin, length, (places - start - axis.place) / axis.stride)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """The map of a region at one scale, and where the region's pixels lie in it."""

    map: Floats
    """``(K, h, w)``"""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    is_mirrored: bool = False

    def posteriors(self, strip: slice) -> Floats:
        """Of the pixels in some rows of the region, ``(K, rows, columns)``."""
        found = _at(_at(self.map, self.rows[strip], 1), self.columns, 2)
        return found[:, :, ::-1] if self.is_mirrored else found


def _see(
    net: BundleNet, axes: tuple[_Axis, _Axis], rescaled: Pixels, size: Size, region: _Region
) -> _Seen:
    """The map of a region of an image of ``size``, from the image at one scale."""
    rows, columns = (
        _span(axis, pixels, side, number)
        for axis, pixels, side, number in zip(
            axes, (region.rows, region.columns), size, rescaled.shape[:2], strict=True
        )
    )
    seen = _continued(_continued(rescaled, rows, 0), columns, 1)
    (found,) = net.arrays(np.ascontiguousarray(seen)[np.newaxis])[net.manifest.result.name]
    return _Seen(found.astype(np.float32, copy=False), rows.at, columns.at)


def _continued(image: Pixels, span: _Span, axis: int) -> Pixels:
    """The rows or columns of a tile, those outside of the image mirrored into it."""
    number = image.shape[axis]
    wanted = np.arange(span.start, span.start + span.length)
    if span.start >= 0 and span.start + span.length <= number:
        inside = slice(span.start, span.start + span.length)
        return image[inside] if axis == 0 else image[:, inside]
    # Mirrored at the first and at the last pixel, as often as needed.
    period = max(1, 2 * (number - 1))
    folded = np.mod(wanted, period)
    taken: Pixels = image.take(np.minimum(folded, (period - folded) % period), axis)
    return taken


def _at(maps: Floats, at: NDArray[np.float64], axis: int) -> Floats:
    """Maps ``(K, h, w)`` interpolated linearly along an axis; beyond its ends they continue."""
    number = maps.shape[axis]
    if number == 0:
        raise VggspecError(report(RunFailed(reason=f"a map came out as {maps.shape[1:]}")))
    bounded = np.clip(at, 0, number - 1)
    left = np.minimum(bounded.astype(np.intp), max(number - 2, 0))
    part = (bounded - left).astype(np.float32)
    lower: Floats = maps.take(left, axis)
    if not part.any():
        return lower
    upper: Floats = maps.take(np.minimum(left + 1, number - 1), axis)
    shape: tuple[Any, ...] = (-1, 1) if axis == 1 else (-1,)
    upper -= lower
    upper *= part.reshape(shape)
    upper += lower
    return upper
