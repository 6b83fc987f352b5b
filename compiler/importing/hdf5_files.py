"""Untrusted HDF5 files: groups, attributes and blocks of numbers, all within the one file.

The whole tree is listed first. Of what HDF5 offers a stranger, nothing is followed or computed: no
link that is not a hard one, no numbers in other files, no virtual datasets, no filters. What is
left are blocks of the file's own bytes, which take no more memory than the file.

Source: the HDF5 File Format Specification, version 3.0.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue import checkpoint_files
from vggspec.base.fields import short
from vggspec.base.optional import require
from vggspec.compiler.importing.stored import (
    BadFileError,
    RefusedError,
    Stored,
    as_float32,
    check_growth,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"

_MAX_OBJECTS, _MAX_DEPTH = 100_000, 32
_MAX_TEXTS = 1 << 30
"""Bytes of an attribute, beyond which they must be in proportion to the file."""

_REPACK = "h5repack -f NONE -l CONTI PATH plain.h5 writes it as plain blocks"


class Hdf5:
    """The groups and datasets of a file, by their paths without a leading ``/``; the root is empty.

    ``file`` is a path, or the file's bytes.

    Raises:
        BadFileError: it is truncated or damaged.
        RefusedError: it refers to other files, or has numbers that are no plain blocks.
        MissingLibraryError: h5py is not installed.
    """

    def __init__(self, file: str | bytes) -> None:
        self._h5py = require("h5py", "reading Keras's files")
        self.bytes = len(file) if isinstance(file, bytes) else os.path.getsize(file)
        with _noticing_damage():
            opened = io.BytesIO(file) if isinstance(file, bytes) else file
            self._file = self._h5py.File(opened, "r")
        self.groups: dict[str, Any] = {}
        self.inside: dict[str, list[str]] = {}
        """The groups and datasets directly inside a group, by their names."""

        self.datasets: dict[str, Stored] = {}
        self._blocks: list[tuple[int, int]] = []
        try:
            with _noticing_damage():
                self._list("", self._file["/"], 0)
        except BaseException:
            self._file.close()
            raise
        self._rest = self.bytes - _covered(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def text(self, group: str, name: str) -> str | None:
        """An attribute that is a text; None where there is none of that name."""
        found = self._attribute(group, name)
        return found[0] if found else None

    def texts(self, group: str, name: str) -> list[str] | None:
        """An attribute that is a list of texts, or several of that name with numbers behind it, as
        Keras splits long ones; None where there is none.
        """
        found = self._attribute(group, name)
        number = 0
        while (more := self._attribute(group, f"{name}{number}")) is not None:
            found = found or []
            found += more
            number += 1
        return found

    def _attribute(self, group: str, name: str) -> list[str] | None:
        with _noticing_damage():
            attributes = self.groups[group].attrs
            if name not in attributes:
                return None
            about = attributes.get_id(name)
            number = int(np.prod(about.shape or (1,), dtype=object))
            kind = self._h5py.check_string_dtype(about.dtype)
            if number == 0:
                return []
            if kind is None:
                raise BadFileError(f"its attribute `{short(name)}` is no text")
            # Several may point to one long text, which is no longer than what is no numbers.
            longest = number * (kind.length or self._rest)
            if longest > _MAX_TEXTS:
                check_growth(longest, self.bytes)
            found = np.asarray(attributes[name], object).reshape(-1)
            return [each if isinstance(each, str) else each.decode() for each in found]

    def _list(self, path: str, group: Any, depth: int) -> None:
        """List a group and what is below it."""
        if depth > _MAX_DEPTH:
            raise BadFileError("its groups are nested too deeply")
        self.groups[path] = group
        names = self.inside[path] = list(group)
        for name in names:
            inner = f"{path}/{name}" if path else name
            if len(self.groups) + len(self.datasets) >= _MAX_OBJECTS:
                raise BadFileError("it has more groups than a net needs")
            if not isinstance(group.get(name, getlink=True), self._h5py.HardLink):
                raise _unusable(inner, "a link to another place", "copy what it links to into it")
            found = group[name]
            if isinstance(found, self._h5py.Group):
                self._list(inner, found, depth + 1)
            elif isinstance(found, self._h5py.Dataset):
                self.datasets[inner] = self._stored(inner, found)

    def _stored(self, name: str, dataset: Any) -> Stored:
        shape, dtype = dataset.shape, dataset.dtype
        if shape is None:
            raise BadFileError(f"`{short(name)}` has no shape")
        about = dataset.id.get_create_plist()
        layouts = self._h5py.h5d
        if about.get_layout() == layouts.VIRTUAL:
            raise _unusable(name, "a view of other files", "copy what it shows into it")
        if about.get_layout() == layouts.CONTIGUOUS and about.get_external_count():
            raise _unusable(name, "a list of places in other files", _REPACK)
        is_bfloat16 = dtype.kind == "V" and dtype.itemsize == 2 and self._is_bfloat16(dataset)
        oddity = None
        if about.get_layout() == layouts.CHUNKED:
            oddity = ("stored in chunks, which may be compressed", _REPACK)
        else:
            self._check_block(name, dataset, about.get_layout() == layouts.CONTIGUOUS)

        def read() -> NDArray[np.float32]:
            with _noticing_damage():
                numbers = dataset[()]
            return as_float32(numbers.view(ml_dtypes.bfloat16) if is_bfloat16 else numbers)

        return Stored(tuple(shape), dtype.kind == "f" or is_bfloat16, read, oddity)

    def _check_block(self, name: str, dataset: Any, is_contiguous: bool) -> None:  # noqa: FBT001
        """Check that the numbers are in the file; HDF5 would show others as zeros."""
        needed = int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
        there = dataset.id.get_storage_size()
        start = dataset.id.get_offset() if is_contiguous and there else 0
        if there != needed or start is None or start + there > self.bytes:
            why = f"`{short(name)}` needs {needed} bytes, the file has {there} of them"
            raise BadFileError(why if there != needed else f"`{short(name)}` is cut off")
        if is_contiguous and there:
            self._blocks.append((start, start + there))

    def _is_bfloat16(self, dataset: Any) -> bool:
        """Keras marks its bytes by an attribute, as HDF5 has no such type."""
        if "dtype" not in dataset.attrs:
            return False
        about = dataset.attrs.get_id("dtype")
        is_text = self._h5py.check_string_dtype(about.dtype) is not None and about.shape == ()
        return is_text and dataset.attrs["dtype"] in ("bfloat16", b"bfloat16")


def _unusable(name: str, is_a: str, way: str) -> RefusedError:
    return RefusedError(checkpoint_files.UnusableTensor(tensor=short(name), is_a=is_a, way=way))


def _covered(blocks: list[tuple[int, int]]) -> int:
    """The bytes in any of the blocks, which may overlap."""
    covered = end = 0
    for first, last in sorted(blocks):
        covered += max(0, last - max(first, end))
        end = max(end, last)
    return covered


@contextmanager
def _noticing_damage() -> Iterator[None]:
    """HDF5's errors as damage of the file."""
    try:
        yield
    except OSError as error:
        if error.errno:
            raise
        cut = re.search(r"truncated file: eof = (\d+),.* stored_eof = (\d+)", str(error))
        why = f"it has {cut[1]} of {cut[2]} bytes" if cut else "its HDF5 structure is not sound"
        raise BadFileError(why) from error
    except (
        AttributeError, LookupError, NotImplementedError, OverflowError, RuntimeError, TypeError,
        ValueError,
    ) as error:  # fmt: skip
        raise BadFileError("its HDF5 structure is not sound") from error
