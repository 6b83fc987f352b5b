"""WebDataset shards in object storage or on a web server, read where they lie, through fsspec.

    s3://bucket/ILSVRC                              train/*.tar, val/*.tar, classes.txt below it
    https://host/ILSVRC-{train,val}-{000..099}.tar  where a server lists no files

Each shard is read once from end to end, to index its images, and the index is cached; after that an
image is one request for a range of bytes. Nothing is written to disk but indices.

What a URL hides, a user's password or a signature, stays in this module: names of shards in
messages, records and caches are without it.
"""

import http
import io
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from vggspec.base.catalogue.remote import NoRanges, NoSuchShards, Unreachable
from vggspec.base.diagnostic import MissingLibraryError, VggspecError, report
from vggspec.base.optional import require
from vggspec.base.wording import foreign
from vggspec.data.digest import Digest
from vggspec.data.shards import (
    MAX_CLASSES_BYTES,
    Index,
    ShardSplit,
    classes_in,
    index_of,
)
from vggspec.data.split import Split

T = TypeVar("T")

WHOLE = "all"
"""The name of the only split of a folder without splits."""

SPLITS = ("train", "val", "validation", "valid", "dev", "test")
KEPT_S = 60.0
TRIES = 5
FIRST_WAIT_S = 0.5  # before the second try; it doubles
BUFFER_BYTES = 4 << 20  # what is read at once while a shard is indexed
MAX_SHARDS = 100_000

#: The library that fsspec needs for a kind of URL, where that is no part of it.
LIBRARIES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "http": "aiohttp", "https": "aiohttp",
}  # fmt: skip

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+(?:::[a-z][a-z0-9+.-]+)*):/+", re.IGNORECASE)
_SPLIT = re.compile(rf"(?:^|[-_/.])({'|'.join(SPLITS)})(?=[-_/.])")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)")


class RemotePath(type(Path())):  # type: ignore[misc]
    """A URL where a path is expected: it names something, and is no file of this machine."""

    def __str__(self) -> str:
        return unslashed(super().__str__())

    def __fspath__(self) -> str:
        return str(self)

    def resolve(self, strict: bool = False) -> "RemotePath":  # noqa: FBT001 (as a path's)
        """Itself: there is nothing to follow."""
        return self


def unslashed(text: str) -> str:
    """A URL that has been a ``Path``, which leaves one slash of two after the scheme."""
    match = _SCHEME.match(text)
    return text if match is None else f"{match[1]}://{text[match.end() :]}"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL, and no folder or file of this machine."""
    text = os.fspath(path)
    return _SCHEME.match(text) is not None and not os.path.exists(text)


def stripped(url: str) -> str:
    """A URL without user, password, query and fragment.

    >>> stripped("https://me:secret@host/a.tar?X-Amz-Signature=12")
    'https://host/a.tar'
    """
    chain = url.split("::")
    for number, link in enumerate(chain):
        if "://" in link:
            parts = urlsplit(link)
            host = parts.netloc.rpartition("@")[2]
            chain[number] = urlunsplit((parts.scheme, host, parts.path, "", ""))
    return "::".join(chain)


def redacted(text: str) -> str:
    """A message of a library, in which URLs are stripped."""
    return re.sub(r"[a-z][a-z0-9+.-]*://[^\s'\"<>)]+", lambda m: stripped(m[0]), text)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RemoteShard:
    """A shard behind a URL."""

    url: str
    """With everything that it takes to open it."""

    size: int
    version: str
    """Changes once it is written again, as far as the store says so."""

    @property
    def path(self) -> RemotePath:
        """Its name."""
        return RemotePath(stripped(self.url))

    def read(self, start: int, size: int) -> bytes:
        """Bytes of it, fewer at its end. A request that fails is repeated.

        Raises:
            VggspecError: the store cannot be reached, or serves no ranges.
            MissingLibraryError: a library is missing.
        """
        size = max(0, min(size, self.size - start))
        if not size:
            return b""
        return _tried(self.url, lambda: self._fetched(start, size))

    def open(self) -> io.BufferedReader:
        """The whole of it as a file, of which little is held in memory."""
        return io.BufferedReader(_File(self), BUFFER_BYTES)

    def _fetched(self, start: int, size: int) -> bytes:
        # The file system is asked for each time: it is cached, and not to be used after a fork.
        system, path = _system(self.url)
        with system.open(path, "rb", cache_type="none", size=self.size) as file:
            file.seek(start)
            found: bytes = file.read(size)
        if len(found) != size:
            raise OSError(f"{len(found)} bytes instead of {size}")
        return found


class _File(io.RawIOBase):
    """A shard as a file that can be read at any place."""

    def __init__(self, shard: RemoteShard) -> None:
        self._shard = shard
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._shard.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._shard.read(self._at, len(buffer))
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


class RemoteSplit(ShardSplit):
    """The images of a split, read from where their shards lie."""

    def __init__(self, shards: list[RemoteShard], indices: list[Index]) -> None:
        super().__init__([shard.path for shard in shards], indices)
        self._remote = shards

    def version(self, index: int) -> str:
        """What changes once the shard of an image is written again."""
        shard = self._remote[self._shard(index)]
        return f"{shard.size} {shard.version}"

    def read(self, index: int) -> bytes:
        """The bytes of the image file.

        Raises:
            VggspecError: the store cannot be reached. That is no fault of the image, so it is not
                left out.
        """
        shard = self._remote[self._shard(index)]
        return shard.read(int(self._offsets[index]), int(self._sizes[index]))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RemoteShards:
    """Shards behind URLs, as a data set in files of its own."""

    url: str
    found: Mapping[str, tuple[str, ...]]
    """The URLs of each split."""

    @property
    def folder(self) -> RemotePath:
        """Its name."""
        return RemotePath(stripped(self.url))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""
        return tuple(self.found)

    def open(
        self, split: str, digest: Digest, outputs: int | None
    ) -> tuple[tuple[str, ...] | None, Split]:
        """Index the shards of a split, those that are not in the cache.

        Raises:
            VggspecError: the store cannot be reached, or a shard is damaged.
            MissingLibraryError: a library is missing.
        """
        del outputs
        require("webdataset", "shards", extra="remote")
        shards, indices = [], []
        for url in self.found[split]:
            shard = _shard(url)
            index = index_of(shard.path, shard.size, [shard.size, shard.version], shard.open)
            content = index.names.tobytes() + index.labels.tobytes() + index.sizes.tobytes()
            digest.add_version(f"{split}/{shard.path.name}", shard.size, shard.version, content)
            shards.append(shard)
            indices.append(index)
        return self._classes(split), RemoteSplit(shards, indices)

    def _classes(self, split: str) -> tuple[str, ...] | None:
        """The names in ``classes.txt``, at the top or beside the shards."""
        first = self.found[split][0]
        beside, query = _folder(first), _query(first)
        top = beside if beside.rpartition("/")[2] != split else beside.rpartition("/")[0]
        for folder in dict.fromkeys((top, beside)):
            url = f"{folder}/classes.txt{query}"
            text = _tried(url, partial(_content, *_system(url)))
            if text is not None:
                return classes_in(text, RemotePath(stripped(url)))
        return None


def find_remote(root: Path) -> RemoteShards | None:
    """The shards behind a URL; None if ``root`` is a path of this machine.

    A URL is that of a folder, or the URLs of shards with ``{000..099}``, ``{train,val}`` or ``*``
    in them. A shard belongs to the split that its folder or its name names. What was found is kept
    for ``KEPT_S`` at most, since a command asks several times.

    Raises:
        VggspecError: there are none, or the store cannot be reached.
        MissingLibraryError: a library is missing.
    """
    if not is_remote(root):
        return None
    with _LISTING:
        at, found = _LISTED.get(root, (0.0, None))
        if found is None or time.monotonic() - at > KEPT_S:
            found = _found(root)
            _LISTED[root] = time.monotonic(), found
    return found


_LISTED: dict[Path, tuple[float, RemoteShards]] = {}
_LISTING = threading.Lock()


def _found(root: Path) -> RemoteShards:
    url = unslashed(os.fspath(root))
    query = _query(url)
    base = url.removesuffix(query) if query else url
    urls: list[str] = []
    if base.endswith(".tar"):
        for each in _expanded(base):
            urls += _listed(each, query) if "*" in each else [each + query]
    else:
        for pattern in ("*.tar", "*/*.tar"):
            urls += _listed(f"{base}/{pattern}", query)
    if not urls:
        raise VggspecError(report(NoSuchShards(), path=stripped(url)))
    # What comes before it is the same for all, and says nothing.
    fixed = re.split(r"[*{]", base)[0].rpartition("/")[0] if base.endswith(".tar") else base
    found: dict[str, list[str]] = {}
    for each in urls:
        names = _SPLIT.findall(each.removesuffix(query)[len(fixed) :])
        found.setdefault(names[-1] if names else WHOLE, []).append(each)
    return RemoteShards(url=url, found={name: tuple(some) for name, some in found.items()})


def _expanded(url: str) -> list[str]:
    """The URLs that braces stand for, in order.

    >>> _expanded("a-{x,y}-{09..10}.tar")
    ['a-x-09.tar', 'a-x-10.tar', 'a-y-09.tar', 'a-y-10.tar']
    """
    library = require("braceexpand", "reading from a URL", extra="remote")
    is_bounded = all(abs(int(b) - int(a)) < MAX_SHARDS for a, b in _RANGE.findall(url))
    try:
        found = list(islice(library.braceexpand(url), MAX_SHARDS + 1)) if is_bounded else []
    except library.UnbalancedBracesError:
        found = []
    if not 0 < len(found) <= MAX_SHARDS:
        raise VggspecError(report(NoSuchShards(), path=stripped(url)))
    return found


def _listed(pattern: str, query: str) -> list[str]:
    """The URLs that match a pattern, in the order of their names."""
    system, path = _system(pattern)
    system.invalidate_cache()  # of listings
    found = _tried(pattern, lambda: sorted(system.glob(path)))
    return [pattern.removesuffix(path) + each + query for each in found]


def _shard(url: str) -> RemoteShard:
    system, path = _system(url)
    info = _tried(url, lambda: system.info(path))
    size = info.get("size") or _tried(url, lambda: _size(system, path))
    fields = ("ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "mtime", "created")
    version = next((str(info[name]) for name in fields if info.get(name)), "")
    return RemoteShard(url=url, size=size, version=version)


def _size(system: Any, path: str) -> int:
    """The size of a file whose store does not say it: a whole copy is kept here, or there is none,
    and then no place in it can be found.
    """
    with system.open(path, "rb") as file:
        found: int = file.seek(0, io.SEEK_END)
    return found


def _content(system: Any, path: str) -> bytes | None:
    """A small file; None if there is none."""
    try:
        with system.open(path, "rb") as file:
            found: bytes = file.read(MAX_CLASSES_BYTES)
    except FileNotFoundError:
        return None
    return found


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it.

    Raises:
        MissingLibraryError: a library is missing.
    """
    require("fsspec", "reading from a URL", extra="remote")
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]

    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        schemes = [link.partition("://")[0] for link in url.split("::")]
        library = next((LIBRARIES[s] for s in schemes if s in LIBRARIES), None)
        if isinstance(error, ImportError) and library is not None:
            install = '"vggspec[remote]"' if library == "aiohttp" else library
            message = f"{stripped(url)} needs {library}: pip install {install}"
            raise MissingLibraryError(message) from error
        what = Unreachable(reason=foreign(redacted(str(error))) or type(error).__name__, tries=1)
        raise VggspecError(report(what, path=stripped(url))) from error
    return system, path


def _tried(url: str, call: Callable[[], T]) -> T:
    """The result of ``call``, which is repeated where it fails for a reason that may pass.

    Raises:
        VggspecError: it fails, and why.
    """
    wait_s = FIRST_WAIT_S
    for number in range(1, TRIES + 1):
        try:
            return call()
        except (VggspecError, MissingLibraryError):
            raise
        except Exception as error:  # noqa: BLE001 (each store has exceptions of its own)
            if isinstance(error, ValueError) and ("range" in str(error) or "seek" in str(error)):
                raise VggspecError(report(NoRanges(), path=stripped(url))) from None
            is_final, why = _reason(error)
            if is_final or number == TRIES:
                # The library's own traceback would show the URL with its signature.
                what = Unreachable(reason=why, tries=number)
                raise VggspecError(report(what, path=stripped(url))) from None
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("the last try returns or raises")


def _reason(error: Exception) -> tuple[bool, str]:
    """Whether a failure will not pass, and what it is."""
    if isinstance(error, FileNotFoundError):
        cause = error.__cause__  # of a web server that is not there fsspec says this too
        if (
            not isinstance(cause, Exception)
            or getattr(cause, "status", None) == http.HTTPStatus.NOT_FOUND
        ):
            return True, "it does not exist"
        error = cause
    kind, first = type(error).__name__, str(error).strip().partition("\n")[0]
    why = f"{kind}: {foreign(redacted(first))}" if first else kind
    return isinstance(error, PermissionError), why


def _folder(url: str) -> str:
    query = _query(url)
    return (url.removesuffix(query) if query else url).rpartition("/")[0]


def _query(url: str) -> str:
    """``?signature`` of a web address; other stores have no queries."""
    last = url.split("::")[-1]
    if not last.startswith(("http://", "https://")):
        return ""
    mark = last.find("?")
    return "" if mark < 0 else last[mark:]
