"""The digests of a bundle's files."""

import hashlib
import os
from io import BufferedReader
from pathlib import Path

from vggspec.base.regular_files import open_file
from vggspec.base.safetensors_header import DATA_SHA256, BadTensorsError, read_layout
from vggspec.bundle.manifest import FileEntry


def digest(path: str | os.PathLike[str], from_byte: int = 0) -> str:
    """SHA-256 of a file, or of its bytes from ``from_byte`` on, in hexadecimal."""
    with open_file(path) as file:
        return digest_of(file, from_byte)


def digest_of(file: BufferedReader, from_byte: int) -> str:
    """The same of an open file."""
    file.seek(from_byte)
    return hashlib.file_digest(file, "sha256").hexdigest()


def stated_sha256(path: str | os.PathLike[str]) -> str | None:
    """The digest of its numbers that a weights file states in its header, if it does."""
    try:
        return read_layout(path).metadata.get(DATA_SHA256)
    except (OSError, BadTensorsError):
        return None


def file_entry(folder: Path, path: str, *, is_needed: bool = True) -> FileEntry:
    """The entry of a file that was just written into a bundle."""
    full = folder / path
    size = full.stat().st_size
    return FileEntry(path=path, bytes=size, sha256=digest(full), is_needed=is_needed)
