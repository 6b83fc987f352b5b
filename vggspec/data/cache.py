"""What is cheap to keep and slow to find again: files in the user's cache folder.

A file that is missing, damaged or cannot be written costs time and nothing else; all of them may
be removed at any time.
"""

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.diagnostic import VggspecError
from vggspec.base.fields import BadFieldError, parse
from vggspec.base.files import cache_folder, replacing_file, write_text
from vggspec.base.opening import open_file, read_file

KEY = "key"

MAX_BYTES = 256 << 20
"""Of what is remembered as JSON: the names of the images in a shard, a few megabytes."""

#: What comes of an archive of arrays that is cut off, or something else.
DAMAGED = (
    OSError, ValueError, TypeError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip


def recall(kind: str, key: Sequence[object]) -> Any:
    """What was remembered under that key, as JSON has it; None where nothing was."""
    path = _path(kind, key)
    if path is None:
        return None
    try:
        found = parse(read_file(path, MAX_BYTES), has_paths=True)
    except (OSError, BadFieldError):
        return None
    is_ours = isinstance(found, dict) and found.get("key") == list(key)
    return found.get("value") if is_ours else None


def remember(kind: str, key: Sequence[object], value: object) -> None:
    """Keep something that JSON can hold, if the system lets us."""
    path = _path(kind, key)
    if path is not None:
        with contextlib.suppress(VggspecError):
            write_text(path, json.dumps({"key": list(key), "value": value}))


def recall_arrays(kind: str, key: Sequence[object]) -> dict[str, NDArray[Any]]:
    """The arrays that were remembered under that key, by their names; none where none were."""
    path = _path(kind, key, "npz")
    if path is None:
        return {}
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except DAMAGED:
        return {}
    of = found.pop(KEY, None)
    return found if of is not None and of.tobytes() == json.dumps(list(key)).encode() else {}


def remember_arrays(kind: str, key: Sequence[object], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Keep arrays, none of them called ``key``, if the system lets us."""
    path = _path(kind, key, "npz")
    if path is not None:
        of = np.frombuffer(json.dumps(list(key)).encode(), np.uint8)
        with contextlib.suppress(VggspecError), replacing_file(path) as file:
            np.savez(file, allow_pickle=False, **{KEY: of, **arrays})


def _path(kind: str, key: Sequence[object], ending: str = "json") -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]
    return folder / f"{kind}-{name}.{ending}"
