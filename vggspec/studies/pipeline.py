"""Many images through one or several nets: decoded once, rescaled once a scale, batched by shape.

Threads decode and rescale images while others are computed. Images come in rounds; within a round
all inputs of the same shape go through a net together, an image always with its mirror image. The
outputs do not depend on batches or threads: those of each image are gathered in the order of the
protocol.

Axes: N images, H rows and W columns of pixels, C channels.
"""

import contextlib
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vggspec.base.diagnostic import VggspecError
from vggspec.base.processors import processors
from vggspec.base.recipe import Resize, TestProtocol
from vggspec.data.decode import BadImageError, decoding
from vggspec.runtime.net import Outputs
from vggspec.runtime.preprocess import rescalings
from vggspec.runtime.protocol import Look, Size, View, Way, inputs, needed, ways

Pixels = NDArray[np.uint8]
Color = Literal["RGB", "gray"]

#: Pixels of a batch, by device: more make a CPU's caches miss, fewer leave a GPU idle. Net D keeps
#: 64 numbers for each pixel, 0.13 and 1 GB.
BATCH_PIXELS = {"cpu": 1 << 19, "cuda": 1 << 22}

#: Batches of a round, about: more fill batches better, fewer return results sooner.
ROUND_BATCHES = 8
ROUND_IMAGES = 512

#: Rescaled images that wait to be computed, in bytes.
AHEAD_BYTES = 128 << 20
MAX_THREADS = 16


class PixelNet(Protocol):
    """A net that can be applied to batches of pixels, such as ``BundleNet``."""

    @property
    def view(self) -> View: ...

    @property
    def color(self) -> Color: ...

    @property
    def device(self) -> Literal["cpu", "cuda"]: ...

    def apply_all(self, batches: Iterable[Pixels], /) -> Iterator[Outputs]: ...


@dataclass(frozen=True, slots=True)
class Applied:
    """A net and the protocol by which it is applied."""

    net: PixelNet
    protocol: TestProtocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """The outputs of a net for one look at an image."""

    net: int
    """Its place among the nets."""

    look: Look
    size: Size
    """Rows and columns of the rescaled image."""

    outputs: Outputs
    """``(n, ...)`` by kind: of the image and its mirror image, or of all crops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An image and the outputs of all nets for it."""

    index: int
    size: Size
    """Rows and columns of the image, upright; zeros where it could not be read."""

    sights: tuple[Sight, ...]
    """By net, by scale, dense before crops."""

    unread: str | None = None
    """Why the image could not be used, if it could not."""


def see(
    applied: Sequence[Applied],
    read: Callable[[int], bytes],
    indices: Iterable[int],
    *,
    enlarge: bool = False,
    threads: int | None = None,
    batch_pixels: int | None = None,
) -> Generator[Seen, None, None]:
    """Apply nets to images, each by its protocol, in the order of ``indices``.

    ``read`` returns an image file's bytes and is called from several threads. ``enlarge`` rescales
    an image to more than Q where a net's window would not fit; otherwise it counts as unread.

    Raises:
        VggspecError: a net's engine fails, or returns NaN or infinity.
    """
    limit = batch_pixels or min(BATCH_PIXELS[each.net.device] for each in applied)
    preparing = Preparing(applied, read, enlarge=enlarge)
    with _Ahead(preparing, indices, threads or usual_threads()) as prepared:
        for images in _rounds(prepared, ROUND_BATCHES * limit):
            outputs = [
                _look(each, [one.requests[i] for one in images], limit)
                for i, each in enumerate(applied)
            ]
            for k, one in enumerate(images):
                yield Seen(
                    index=one.index,
                    size=one.size,
                    sights=tuple(
                        Sight(net=i, look=request.look, size=request.size, outputs=found)
                        for i, of_net in enumerate(outputs)
                        for request, found in zip(one.requests[i], of_net[k], strict=True)
                    ),
                    unread=one.unread,
                )


def usual_threads() -> int:
    """Threads that decode: one for each processor."""
    return min(MAX_THREADS, processors())


def enlarged_scale(size: Size, scale: int, least: Size) -> int:
    """The smallest scale from ``scale`` on at which an image has ``least`` rows and columns.

    >>> enlarged_scale((300, 400), 200, (224, 224))
    224
    """
    short = min(size)
    return max(scale, *(-(-side * short // of) for side, of in zip(least, size, strict=True)))


@dataclass(frozen=True, slots=True)
class _Request:
    """A look at an image by one net."""

    look: Look
    size: Size
    inputs: list[Pixels]
    """``(H, W, C)`` each: views of the rescaled image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """A rescaled image, or why it could not be used."""

    index: int
    size: Size
    requests: tuple[list[_Request], ...]
    """For each net."""

    bytes: int
    """The size of the rescaled images."""

    pixels: int
    """Pixels of all inputs together."""

    unread: str | None = None


class Preparing:
    """Reads, decodes and rescales images, by their index, for several nets."""

    def __init__(
        self, applied: Sequence[Applied], read: Callable[[int], bytes], *, enlarge: bool
    ) -> None:
        self._protocols = [each.protocol for each in applied]
        self._views = [each.net.view for each in applied]
        self._colors = [each.net.color for each in applied]
        self._read = read
        self._enlarge = enlarge

    def __call__(self, index: int) -> PreparedImage:
        try:
            data = self._read(index)
            with contextlib.ExitStack() as held:
                decoded = {
                    color: held.enter_context(decoding(data, color)) for color in set(self._colors)
                }
                return self._prepared(index, decoded)
        except BadImageError as error:
            return self._unread(index, str(error))
        except VggspecError as error:
            return self._unread(index, error.reports[0].what.title())

    def _prepared(self, index: int, decoded: dict[Color, Pixels]) -> PreparedImage:
        size = next((image.shape[0], image.shape[1]) for image in decoded.values())
        wanted: dict[tuple[Color, Resize], set[int]] = defaultdict(set)
        plans: list[list[tuple[int, Way, int]]] = []
        for protocol, view, color in zip(self._protocols, self._views, self._colors, strict=True):
            plan = [
                (scale, way, self._scale(size, scale, way, view))
                for scale in protocol.scales
                for way in ways(view, protocol)
            ]
            wanted[color, protocol.resize].update(at for _, _, at in plan)
            plans.append(plan)
        rescaled = {
            (color, resize, scale): image
            for (color, resize), scales in wanted.items()
            for scale, image in zip(
                sorted(scales), rescalings(decoded[color], sorted(scales), resize), strict=True
            )
        }
        requests = tuple(
            [
                _Request(
                    Look(scale, way),
                    _size(rescaled[color, protocol.resize, at]),
                    inputs(rescaled[color, protocol.resize, at], way, view, protocol),
                )
                for scale, way, at in plan
            ]
            for plan, protocol, view, color in zip(
                plans, self._protocols, self._views, self._colors, strict=True
            )
        )
        return PreparedImage(
            index=index,
            size=size,
            requests=requests,
            bytes=sum(image.nbytes for image in rescaled.values()),
            pixels=sum(
                one.shape[0] * one.shape[1]
                for of_net in requests
                for request in of_net
                for one in request.inputs
            ),
        )

    def _scale(self, size: Size, scale: int, way: Way, view: View) -> int:
        return enlarged_scale(size, scale, needed(way, view)) if self._enlarge else scale

    def _unread(self, index: int, why: str) -> PreparedImage:
        none: tuple[list[_Request], ...] = tuple([] for _ in self._views)
        return PreparedImage(index=index, size=(0, 0), requests=none, bytes=0, pixels=0, unread=why)


class _Ahead:
    """Prepared images in their order, as many ahead of the consumer as memory allows."""

    def __init__(self, prepare: Preparing, indices: Iterable[int], threads: int) -> None:
        self._prepare = prepare
        self._indices = iter(indices)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prepare")
        self._waiting: deque[Future[PreparedImage]] = deque()
        self._image_bytes = 0
        """The size of the largest image so far."""

    def __enter__(self) -> Iterator[PreparedImage]:
        return self._in_order()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _in_order(self) -> Iterator[PreparedImage]:
        while self._fill() or self._waiting:
            one = self._waiting.popleft().result()
            self._image_bytes = max(self._image_bytes, one.bytes)
            yield one

    def _fill(self) -> bool:
        """Submit work until enough is ahead; False once nothing is left."""
        number = 2 * self._threads
        if self._image_bytes:
            number = max(number, min(ROUND_IMAGES, AHEAD_BYTES // self._image_bytes))
        while len(self._waiting) < number:
            index = next(self._indices, None)
            if index is None:
                return False
            self._waiting.append(self._pool.submit(self._prepare, index))
        return True


def _rounds(prepared: Iterator[PreparedImage], most_pixels: int) -> Iterator[list[PreparedImage]]:
    images: list[PreparedImage] = []
    pixels = 0
    for one in prepared:
        images.append(one)
        pixels += one.pixels
        if pixels >= most_pixels or len(images) == ROUND_IMAGES:
            yield images
            images, pixels = [], 0
    if images:
        yield images


def _look(
    applied: Applied, requests: Sequence[Sequence[_Request]], batch_pixels: int
) -> list[list[Outputs]]:
    """A net's outputs for each image of a round, for each of its looks."""
    by_shape: dict[Size, list[tuple[int, int, Pixels]]] = defaultdict(list)
    for k, of_image in enumerate(requests):
        for r, request in enumerate(of_image):
            for one in request.inputs:
                by_shape[one.shape[0], one.shape[1]].append((k, r, one))
    group = 2 if applied.protocol.flip else 1
    batches: list[list[tuple[int, int, Pixels]]] = []
    for (rows, columns), listed in by_shape.items():
        number = max(group, batch_pixels // (rows * columns) // group * group)
        batches += [listed[i : i + number] for i in range(0, len(listed), number)]
    parts: dict[tuple[int, int], list[Outputs]] = defaultdict(list)
    stacked = (np.stack([one for _, _, one in batch]) for batch in batches)
    for batch, outputs in zip(batches, applied.net.apply_all(stacked), strict=True):
        start = 0
        while start < len(batch):
            place = batch[start][:2]
            end = next((i for i in range(start, len(batch)) if batch[i][:2] != place), len(batch))
            parts[place].append({kind: array[start:end] for kind, array in outputs.items()})
            start = end
    return [
        [_joined(parts[k, r]) for r in range(len(of_image))] for k, of_image in enumerate(requests)
    ]


def _joined(parts: list[Outputs]) -> Outputs:
    return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}


def _size(image: Pixels) -> Size:
    return image.shape[0], image.shape[1]
