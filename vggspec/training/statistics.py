"""Statistics of the training images: the mean colour, and how the colours vary.

The mean is subtracted from every image (section 2.1); the axes of variation give the colour shift
(section 3.1, after Krizhevsky et al. 2012, section 4.1). Images of all sizes count equally, as each
gives one crop per epoch. The statistics depend on the data only, and are measured once.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.processors import processors
from vggspec.compiler.ir import Color
from vggspec.data.cache import recall, remember
from vggspec.data.decode import BadImageError, Pixels, decode
from vggspec.data.left_out import LeftOut
from vggspec.data.split import Split
from vggspec.training.dataset import DataSet

FORMAT = 1  # of the cached statistics
SAMPLE = 4096  # images; the mean of a channel is then known to about one level of 255

#: The mean of an image by channel ``(C,)`` and the mean product of each two channels ``(C, C)``.
Moments = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of pixels from 0 to 255, channels in the order of the net's input."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    num_images: int

    @classmethod
    def from_fields(cls, fields: Fields, channels: int | None = None) -> Self:
        """The inverse of ``dataclasses.asdict``, after JSON; with ``channels`` channels if given.

        Raises:
            BadFieldError: it is malformed.
        """
        mean = fields.numbers("mean", 4)
        if len(mean) != (channels or len(mean) or 1):
            raise fields.bad("mean", f"does not have {channels or 1} numbers")
        rows = fields.lists("covariance", len(mean), len(mean))
        if len(rows) != len(mean):
            raise fields.bad("covariance", f"does not have {len(mean)} rows")
        return cls(
            mean=mean,
            covariance=tuple(Fields({"row": row}, "covariance.").numbers("row") for row in rows),
            num_images=fields.integer("num_images", 1),
        )

    def axes(self) -> NDArray[np.float64]:
        """The principal axes as columns ``(C, C)``, each one standard deviation long."""
        variances, axes = np.linalg.eigh(np.array(self.covariance))
        # An eigenvector may come with either sign; a seed gives one colour shift all the same.
        largest = np.abs(axes).argmax(axis=0)
        axes = axes * np.sign(axes[largest, np.arange(len(axes))])
        return np.asarray(axes * np.sqrt(np.maximum(variances, 0.0)))


def measured(data: DataSet, color: Color, left_out: LeftOut) -> Statistics:
    """The statistics of the training images on disk, or the cached ones.

    Raises:
        VggspecError: too many images are bad.
    """
    key = [FORMAT, data.stamp, color, SAMPLE]
    found = _recalled(recall("statistics", key), 1 if color == "gray" else 3)
    if found is None:
        found = _joined(_of_split(data.train, color, left_out))
        remember("statistics", key, asdict(found))
    return found


def sample(num_images: int) -> list[int]:
    """Which images are measured: all of a small set, else ``SAMPLE`` at random, in their order."""
    if num_images <= SAMPLE:
        return list(range(num_images))
    random = np.random.default_rng(0)
    return sorted(random.choice(num_images, SAMPLE, replace=False).tolist())


def measure(images: Iterable[Pixels]) -> Statistics:
    """The statistics of images ``(H, W, C)``, at least one."""
    return _joined(map(_moments, images))


def _joined(moments: Iterable[Moments]) -> Statistics:
    number = 0
    mean: NDArray[np.float64] = np.zeros(1)
    square: NDArray[np.float64] = np.zeros((1, 1))
    for of_one, square_of_one in moments:
        mean = mean + of_one
        square = square + square_of_one
        number += 1
    assert number, "the caller ends the work when images cannot be read"
    mean, square = mean / number, square / number
    covariance = square - np.outer(mean, mean)
    return Statistics(
        mean=tuple(mean.tolist()),
        covariance=tuple(tuple(row) for row in covariance.tolist()),
        num_images=number,
    )


def _moments(image: Pixels) -> Moments:
    # Sums of whole numbers below 2^53 are exact in any order. BLAS is avoided: its threads take a
    # lock, for which these threads would wait.
    planes = np.ascontiguousarray(image.reshape(-1, image.shape[-1]).T).astype(np.float64)
    channels, pixels = planes.shape
    products = np.empty((channels, channels))
    for i, j in combinations_with_replacement(range(channels), 2):
        products[i, j] = products[j, i] = np.einsum("n,n", planes[i], planes[j])
    return planes.sum(axis=1) / pixels, products / pixels


def _of_split(split: Split, color: Color, left_out: LeftOut) -> Iterator[Moments]:
    """Of each image of the sample, decoded in threads while the next ones are read."""
    threads = processors()
    with ThreadPoolExecutor(threads, thread_name_prefix="statistics") as pool:
        waiting: deque[tuple[int, Future[Moments]]] = deque()

        def next_ones(most: int) -> Iterator[Moments]:
            while len(waiting) > most:
                index, future = waiting.popleft()
                try:
                    yield future.result()
                except BadImageError as error:
                    left_out.add(split.name(index), str(error))

        try:
            for index in sample(len(split)):
                try:
                    data = split.read(index)
                except BadImageError as error:
                    left_out.add(split.name(index), str(error))
                else:
                    waiting.append((index, pool.submit(lambda d: _moments(decode(d, color)), data)))
                yield from next_ones(2 * threads)
            yield from next_ones(0)
        finally:
            for _, future in waiting:
                future.cancel()


def _recalled(value: Any, channels: int) -> Statistics | None:
    """The cached value, if it can be statistics."""
    try:
        return Statistics.from_fields(Fields({"value": value}).object("value"), channels)
    except BadFieldError:
        return None
