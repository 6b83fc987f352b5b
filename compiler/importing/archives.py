"""Untrusted zip archives: a member is read exactly as the archive states, or refused."""

import copy
import errno
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from vggspec.compiler.importing.stored import BadFileError, check_growth

_CHUNK = 1 << 20
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy and PyTorch write
_DEFLATE = 1032
"""The bytes that one deflated byte expands to, at most."""


class Archive:
    """The members of a zip archive."""

    def __init__(self, path: str) -> None:
        self.bytes = os.path.getsize(path)
        self._taken = 0
        with _noticing_damage():
            self._zip = zipfile.ZipFile(path)
        infos = [info for info in self._zip.infolist() if not info.filename.endswith("/")]
        self.members = {info.filename: info for info in infos}
        self._has_sums = any(info.CRC for info in infos)
        if len(self.members) < len(infos):
            self._zip.close()
            raise BadFileError("a member is in it twice")
        if any(info.compress_type not in _PACKINGS for info in infos):
            self._zip.close()
            raise BadFileError("its archive uses a compression method that is not supported")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._zip.close()

    def size(self, name: str) -> int:
        """The size of a member in bytes, checked against that of the file.

        Raises:
            BadFileError: it cannot have as many.
        """
        if name not in self.members:
            raise BadFileError(f"it has no `{name}`")
        info = self.members[name]
        growth = 1 if info.compress_type == zipfile.ZIP_STORED else _DEFLATE
        if info.file_size > growth * self.bytes:
            raise BadFileError(f"`{name}` would have more bytes than the file can hold")
        return info.file_size

    def start(self, name: str, length: int) -> bytes:
        """The first bytes of a member."""
        self.size(name)
        with _noticing_damage(), self._open(name) as file:
            return file.read(length)

    def read(self, name: str) -> NDArray[np.uint8]:
        """All bytes of a member, after comparing them with its checksum."""
        self._taken += self.size(name)
        check_growth(self._taken, self.bytes)
        found = np.empty(self.size(name), np.uint8)
        end = 0
        with _noticing_damage(), self._open(name) as file:
            while chunk := file.read(_CHUNK):
                if end + len(chunk) > len(found):
                    raise BadFileError(f"`{name}` has more bytes than the archive says")
                found[end : end + len(chunk)] = np.frombuffer(chunk, np.uint8)
                end += len(chunk)
        if end < len(found):
            raise BadFileError(f"`{name}` has {end} bytes, the archive says {len(found)}")
        return found

    def _open(self, name: str) -> IO[bytes]:
        info = self.members[name]
        if not self._has_sums:  # by torch.serialization.set_crc32_options(False)
            info = copy.copy(info)
            del info.CRC
        return self._zip.open(info)


@contextmanager
def _noticing_damage() -> Iterator[None]:
    try:
        yield
    except zipfile.BadZipFile as error:
        if "CRC" in str(error):
            raise BadFileError("the checksum (CRC) of a member is another") from error
        raise BadFileError("its archive is cut off or damaged") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise BadFileError("its archive is cut off or damaged") from error
    except NotImplementedError as error:
        raise BadFileError("its archive uses a compression method that is not supported") from error
    except (zlib.error, EOFError, struct.error, LookupError, OverflowError, ValueError) as error:
        raise BadFileError("its archive is cut off or damaged") from error
    except RuntimeError as error:
        raise BadFileError("its archive is encrypted") from error
