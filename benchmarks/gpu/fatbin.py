"""Blanks, in a library, the device code that one GPU does not use, so that it compresses well.

A library of CUDA holds *containers* of device code. A container starts with a header of 16 bytes
(magic number, version, size of the header, size of what follows) and is a row of entries, each with
a header of its own: kind (1 PTX, 2 machine code), sizes of header and payload, compute capability.
The headers stay, so the driver finds an entry where it was; only payloads become zeros.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONTAINER = struct.Struct("<IHHQ")
MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, CONTAINER.size)

#: kind, version, bytes of the header, of the payload; others; capability, such as 90 for 9.0.
ENTRY = struct.Struct("<HHIQ12xI")
PTX, MACHINE_CODE = 1, 2


@dataclass(frozen=True, slots=True)
class Entry:
    """Code for one compute capability."""

    kind: int
    capability: int
    start: int
    """Of the payload, in the file."""

    size: int

    def runs_on(self, capability: int) -> bool:
        """Machine code runs on its major version, from its minor version on."""
        same_major = self.capability // 10 == capability // 10
        return self.kind == MACHINE_CODE and same_major and self.capability <= capability


def containers(data: bytes | mmap.mmap) -> Iterator[list[Entry]]:
    """The entries of each container; what only looks like a container is passed over."""
    at = data.find(MAGIC)
    while at >= 0:
        size = CONTAINER.unpack_from(data, at)[-1] if at + CONTAINER.size <= len(data) else 0
        start = at + CONTAINER.size
        entries = _entries(data, start, start + size)
        if entries:
            yield entries
            at = data.find(MAGIC, start + size)
        else:
            at = data.find(MAGIC, at + 1)


def _entries(data: bytes | mmap.mmap, at: int, end: int) -> list[Entry]:
    """Those that fill the bytes to ``end`` exactly, else none."""
    found: list[Entry] = []
    while at < end <= len(data):
        if at + ENTRY.size > end:
            return []
        kind, _, header, size, capability = ENTRY.unpack_from(data, at)
        if header < ENTRY.size or at + header + size > end:
            return []
        found.append(Entry(kind, capability, at + header, size))
        at += header + size
    return found if at == end else []


def prune(path: Path, capability: int) -> int:
    """Blank, in place, all but the machine code that a GPU of that capability runs.

    A container without such code is left whole: the driver compiles its PTX. Returns the number of
    bytes that became zeros.
    """
    blanked = 0
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for entries in containers(data):
            usable = [one.capability for one in entries if one.runs_on(capability)]
            for one in entries if usable else ():
                if not (one.runs_on(capability) and one.capability == max(usable)):
                    data[one.start : one.start + one.size] = bytes(one.size)
                    blanked += one.size
    return blanked
