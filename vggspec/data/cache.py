"""Results that are cheap to keep and slow to compute: files in the user's cache folder.

A file that is missing, damaged or cannot be written costs only time; all of them may be removed at
any time.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vggspec.base.diagnostic import VggspecError
from vggspec.base.fields import BadFieldError, parse
from vggspec.base.files import cache_folder, write_text
from vggspec.base.regular_files import read_file

MAX_BYTES = 256 << 20
"""The limit of a cached file; the names of the images in a shard take a few megabytes."""


def recall(kind: str, key: Sequence[object]) -> Any:
    """The JSON value cached under that key, or None."""
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
    """Cache a value that JSON can represent, if the system allows it."""
    path = _path(kind, key)
    if path is not None:
        with contextlib.suppress(VggspecError):
            write_text(path, json.dumps({"key": list(key), "value": value}))


def _path(kind: str, key: Sequence[object]) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:32]
    return folder / f"{kind}-{name}.json"
