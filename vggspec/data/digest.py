"""What files a data set consists of, as short texts that tell one from another."""

import hashlib
import os


class Digest:
    """Two SHA-256 over files in an order: of names and sizes, and of when they changed as well."""

    def __init__(self) -> None:
        self._names = hashlib.sha256()
        self._times = hashlib.sha256()

    def add(self, name: str, stat: os.stat_result, content: bytes = b"") -> None:
        """Add a file, and what is known of its content."""
        self.add_version(name, stat.st_size, str(stat.st_mtime_ns), content)

    def add_version(self, name: str, size: int, version: str, content: bytes = b"") -> None:
        """Add a file whose ``version`` changes when it is written again."""
        line = f"{name}\0{size}\n".encode(errors="surrogateescape") + content
        self._names.update(line)
        self._times.update(b"%s%s\n" % (line, version.encode()))

    def add_digest(self, fingerprint: str, stamp: str) -> None:
        """Add other files by their digests."""
        self._names.update(fingerprint.encode())
        self._times.update(stamp.encode())

    def fingerprint(self) -> str:
        """The same for a copy of the files."""
        return self._names.hexdigest()

    def stamp(self) -> str:
        """Changes once a file has been rewritten, even with the same size."""
        return self._times.hexdigest()
