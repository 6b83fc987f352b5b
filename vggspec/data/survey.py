"""Looks at every image of a data set: its size, its format, and whether it is there twice.

Each file is read and decoded as for training, in threads. Two fingerprints are taken of an image:
of its file, and of its upright pixels, so that a copy in another lossless format, or with other
metadata, is recognised too.

Axes: N images.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vggspec.base.processors import processors
from vggspec.base.watcher import SILENT, Progress, Watcher
from vggspec.data.classed import Classed, Images
from vggspec.data.decode import BadImageError, Pixels, decoding
from vggspec.data.masked import Masked
from vggspec.data.read import opened, orientation

#: Bytes of a fingerprint that are kept, of SHA-256.
KEPT_BYTES = 16

#: Brands of the container that HEIC and AVIF share (ISO 23008-12, ISO 23000-22).
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC",
    b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """What was found on the images of a split; entries of broken ones are 0 or empty."""

    of: Classed
    sizes: NDArray[np.int32]
    """``(N, 2)``: rows and columns of the upright image."""

    files: NDArray[np.uint64]
    """``(N, 2)``: the fingerprint of the file."""

    pixels: NDArray[np.uint64]
    """``(N, 2)``: the fingerprint of the pixels."""

    formats: list[str]
    """For each image its format and Pillow's mode, ``JPEG CMYK``."""

    turned: NDArray[np.bool_]
    """``(N,)``: whether EXIF turns or mirrors it."""

    broken: dict[int, str]
    """Why an image, or its mask, cannot be read, by its number."""

    labelled: NDArray[np.int64] | None
    """``(256,)``: the pixels of all masks by their label; None for images without masks."""

    @property
    def readable(self) -> NDArray[np.int64]:
        """The numbers of the other images."""
        return np.flatnonzero(self.sizes[:, 0])


class _Look(NamedTuple):
    """What was found on an image."""

    size: tuple[int, int]
    file: bytes
    pixels: bytes
    format: str
    is_turned: bool
    labels: NDArray[np.int64] | None
    """``(256,)``: how many of its pixels have each label."""


def survey(of: Classed, watch: Watcher = SILENT) -> Survey:
    """Look at all images of a split. ``watch`` receives how many have been seen.

    Of pictures with masks, ``of.labels`` ``(N, K)`` becomes which classes each shows.
    """
    number = len(of.images)
    found = Survey(
        of=of,
        sizes=np.zeros((number, 2), np.int32),
        files=np.zeros((number, 2), np.uint64),
        pixels=np.zeros((number, 2), np.uint64),
        formats=[""] * number,
        turned=np.zeros(number, np.bool_),
        broken={},
        labelled=np.zeros(256, np.int64) if isinstance(of.images, Masked) else None,
    )
    for index, look in _looks(of.images):
        if isinstance(look, str):
            found.broken[index] = look
        else:
            found.sizes[index] = look.size
            found.files[index] = np.frombuffer(look.file, np.uint64)
            found.pixels[index] = np.frombuffer(look.pixels, np.uint64)
            found.formats[index] = look.format
            found.turned[index] = look.is_turned
            if found.labelled is not None and look.labels is not None:
                found.labelled[:] += look.labels
                of.labels[index] = look.labels[: of.labels.shape[1]] > 0
        doing = f"reading {of.split}"
        broken = f"{len(found.broken)} broken" if found.broken else ""
        now = Progress(doing=doing, done=index + 1, total=number, unit="images", details=(broken,))
        watch.progress(now)
    return found


def _looks(images: Images) -> Iterator[tuple[int, _Look | str]]:
    """Each image in order, a few at a time in threads; a text says why it cannot be read."""
    threads = processors()
    with ThreadPoolExecutor(threads, thread_name_prefix="survey") as pool:
        waiting: deque[Future[_Look | str]] = deque()
        done = 0
        try:
            for index in range(len(images)):
                waiting.append(pool.submit(_look, images, index))
                if len(waiting) > 2 * threads:
                    yield done, waiting.popleft().result()
                    done += 1
            while waiting:
                yield done, waiting.popleft().result()
                done += 1
        finally:
            for future in waiting:
                future.cancel()


def _look(images: Images, index: int) -> _Look | str:
    data = b""
    try:
        data = images.read(index)
        with decoding(data, "RGB") as pixels:
            of_pixels = _fingerprint_of(pixels)
            rows, columns = pixels.shape[:2]
        with opened(data) as header:
            form = f"{header.format} {header.mode}"
            is_turned = orientation(header) != 1
        labels = None
        if isinstance(images, Masked):
            mask = images.mask(index, (rows, columns))
            labels = np.bincount(mask.ravel(), minlength=256)
    except BadImageError as error:
        return _why(data, str(error))
    return _Look((rows, columns), _fingerprint(data), of_pixels, form, is_turned, labels)


def _why(data: bytes, reason: str) -> str:
    """The reason, or the name of a known format that is not read."""
    name = _BRANDS.get(data[8:12]) if data[4:8] == b"ftyp" else None
    return f"it is {name}, which is not read: convert it" if name else reason


def _fingerprint(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:KEPT_BYTES]


def _fingerprint_of(pixels: Pixels) -> bytes:
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()[:KEPT_BYTES]
