"""The shapes that are measured: images, rows and columns of one run."""

from collections.abc import Iterable, Sequence

from vggspec.base.arguments import as_whole, entries
from vggspec.base.catalogue.benching import ShapeNotTaken
from vggspec.base.catalogue.running import ShapeOutsideProfiles
from vggspec.base.diagnostic import ArgumentError, Diagnostic, VggspecError, report
from vggspec.base.fields import MAX_SIDE
from vggspec.bundle.opening import Bundle
from vggspec.bundle.profile import BatchShape, Size, spans
from vggspec.bundle.sizes import above, fits

BATCHES = (1, 8)
DENSE: Size = (384, 512)
"""Rows and columns of an image that is larger than the window, where nets take one."""

MOST_BATCH = 1 << 14
MOST_NUMBERS = 1 << 28
"""In the input of a run: 1 GiB of float32."""


def as_sizes(sizes: Iterable[Iterable[int]] | None) -> tuple[Size, ...] | None:
    """Sizes of images as rows and columns, from pairs of any kind; None stays None.

    Raises:
        TypeError: these are no pairs of whole numbers.
        ArgumentError: there are none, or one is out of range.
    """
    if sizes is None:
        return None
    pairs = [tuple(entries("sizes", size)) for size in entries("sizes", sizes)]
    if not all(len(pair) == 2 for pair in pairs):
        raise TypeError(f"`sizes` are pairs of rows and columns, as (384, 512), not {sizes!r}")
    found = tuple((as_whole("sizes", rows), as_whole("sizes", columns)) for rows, columns in pairs)
    if not found or not all(1 <= side <= MAX_SIDE for size in found for side in size):
        message = f"a side of an image has 1 to {MAX_SIDE} pixels"
        raise ArgumentError(message)
    return found


def as_batches(batches: Iterable[int] | None) -> tuple[int, ...] | None:
    """Numbers of images, each once; None stays None.

    Raises:
        TypeError: these are no whole numbers.
        ArgumentError: there are none, or one is out of range.
    """
    if batches is None:
        return None
    found = tuple(
        dict.fromkeys(as_whole("batches", number) for number in entries("batches", batches))
    )
    if not found or not all(1 <= n <= MOST_BATCH for n in found):
        message = f"a batch is a number of images from 1 to {MOST_BATCH}"
        raise ArgumentError(message)
    return found


def shapes_for(
    bundle: Bundle, *, is_engine: bool, sizes: Sequence[Size] | None, batches: Sequence[int] | None
) -> tuple[BatchShape, ...]:
    """The shapes to measure a bundle at.

    ``sizes`` are rows and columns, each measured with each of ``batches``. Without them it is the
    net's window with each batch, and an image of about 384 x 512 with the first batch if it takes
    larger images than its window; of an engine it is the usual shape of each profile.

    Raises:
        ArgumentError: a batch of such images is too large.
        VggspecError: the net takes no images of a size that was asked for, or its engine no such
            batch.
    """
    engine = bundle.manifest.engine
    if is_engine and engine is not None and sizes is None and batches is None:
        return tuple(dict.fromkeys(profile.opt for profile in engine.profiles))
    numbers = BATCHES if batches is None else batches
    contract = bundle.manifest.input
    if sizes is None:
        # A net without FC layers takes smaller images than those it was made for.
        window = _at_least(bundle, bundle.manifest.window) if contract.is_dynamic else contract.size
        found = [(n, *window) for n in numbers]
        if contract.is_dynamic:
            found.append((numbers[0], *_at_least(bundle, DENSE)))
    else:
        found = [(n, *size) for size in dict.fromkeys(sizes) for n in numbers]
    for shape in dict.fromkeys(found):
        _check(bundle, shape)
        profiles = () if engine is None or not is_engine else engine.profiles
        if profiles and not any(profile.holds(shape) for profile in profiles):
            what = ShapeOutsideProfiles(shape=shape, ranges=spans(profiles))
            raise _refused(bundle, what)
    return tuple(dict.fromkeys(found))


def _at_least(bundle: Bundle, size: Size) -> Size:
    """The smallest size from ``size`` on that the net takes."""
    contract = bundle.manifest.input
    rows, columns = (max(pair) for pair in zip(size, contract.size, strict=True))
    return above(contract.sizes, (rows, columns))


def _check(bundle: Bundle, shape: BatchShape) -> None:
    number, *rest = shape
    size = (rest[0], rest[1])
    contract = bundle.manifest.input
    least = contract.size
    if contract.is_dynamic:
        is_taken = all(n >= m for n, m in zip(size, least, strict=True)) and fits(
            contract.sizes, size
        )
    else:
        is_taken = size == least
    if not is_taken:
        what = ShapeNotTaken(
            size=size,
            least=least,
            is_dynamic=contract.is_dynamic,
            multiples=None if contract.sizes == "any" else str(contract.sizes),
        )
        raise _refused(bundle, what)
    if number * size[0] * size[1] * len(contract.mean) > MOST_NUMBERS:
        message = (
            f"a batch of {number} with {size[0]} × {size[1]} pixels each is more than the 1 GiB of "
            "input that a run takes here: measure a smaller shape or batch"
        )
        raise ArgumentError(message)


def _refused(bundle: Bundle, what: Diagnostic) -> VggspecError:
    return VggspecError(report(what, path=str(bundle.path)))
