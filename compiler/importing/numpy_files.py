"""NumPy's archives of arrays (``.npz``): headers are checked before they are used.

Source: the format of ``.npy`` files, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import ast
import io
import re
import warnings
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vggspec.compiler.importing.archives import Archive
from vggspec.compiler.importing.stored import BadFileError, Stored, as_float32

_MAX_HEADER = 10_000  # NumPy's own bound
_UNTYPED = (
    "an array without a number type, as NumPy saves bfloat16",
    "where it was written, save it as array.astype('float32')",
)


class HoldsObjectsError(Exception):
    """An array of Python objects, which are pickled; the message is its name."""


def read_archive(archive: Archive) -> dict[str, Stored]:
    """The arrays of an archive by name, in its order.

    Raises:
        BadFileError: it is damaged.
        HoldsObjectsError: an array is a pickle.
    """
    return {
        name.removesuffix(".npy"): _stored(archive, name)
        for name in archive.members
        if name.endswith(".npy")
    }


def _stored(archive: Archive, name: str) -> Stored:
    start = archive.start(name, _MAX_HEADER + 12)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types by outdated names
            shape, is_fortran, dtype, data = _header(start)
    except (LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as error:
        raise BadFileError(f"`{name}` has no sound header") from error
    if dtype.hasobject:
        raise HoldsObjectsError(name.removesuffix(".npy"))
    if data + prod(shape) * dtype.itemsize != archive.size(name):
        raise BadFileError(f"`{name}` has another size than its header says")

    def read() -> NDArray[np.float32]:
        numbers = archive.read(name)[data:].view(dtype)
        if is_fortran:
            return as_float32(numbers.reshape(shape[::-1]).T)
        return as_float32(numbers.reshape(shape))

    # Of types that NumPy does not know it keeps the bytes alone.
    oddity = _UNTYPED if dtype.kind == "V" and dtype.names is None else None
    return Stored(shape, dtype.kind == "f" or oddity is not None, read, oddity)


def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, type, and where the data begins."""
    file = io.BytesIO(start)
    wide = 2 if npy.read_magic(file) == (1, 0) else 4
    length = int.from_bytes(file.read(wide), "little")
    text = file.read(length)
    if len(text) < length or length > _MAX_HEADER:
        raise ValueError
    # Python 2 wrote `3L`.
    said = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text.decode("utf-8").strip()))
    shape, is_fortran = said["shape"], said["fortran_order"]
    if len(shape) > 16 or not all(type(side) is int and 0 <= side < 1 << 48 for side in shape):
        raise ValueError
    return tuple(shape), is_fortran is True, npy.descr_to_dtype(said["descr"]), file.tell()
