"""The descriptors of all images of a data set, as a ``Task``.

A descriptor is written to the file; the journal keeps its checksum.

Axes: N images.
"""

import base64
import bisect
import contextlib
import hashlib
import itertools
import json
import os
import zlib
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import Device
from vggspec.base.fields import Fields
from vggspec.base.recipe import TestProtocol
from vggspec.base.version import __version__
from vggspec.bundle.opening import Bundle
from vggspec.data.classed import Images
from vggspec.data.digest import Digest
from vggspec.data.remote import RemoteSplit
from vggspec.data.shards import ShardSplit
from vggspec.runtime.net import BundleNet
from vggspec.studies.features.descriptors import Combination, Described, describe
from vggspec.studies.pipeline import Applied
from vggspec.studies.tasks.task import identified

MAX_ENCODED = 1 << 28
"""Characters of a descriptor on its way from another rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Describing:
    """Nets that output ``features``, and the splits whose images they describe, in order."""

    nets: tuple[tuple[Bundle, TestProtocol], ...]
    combination: Combination
    splits: tuple[Images, ...]
    folder: str = "."
    """The folder of the images."""

    device: Device = "auto"
    threads: int | None = None
    batch_pixels: int | None = None

    @property
    def indices(self) -> NDArray[np.int64]:
        """``(N,)``: the images of all splits, numbered consecutively."""
        return np.arange(self._ends[-1], dtype=np.int64)

    def place(self, index: int) -> tuple[int, int]:
        """The split of an image, and its index there."""
        ends = self._ends
        split = bisect.bisect_right(ends, index)
        return split, index - (ends[split - 1] if split else 0)

    def with_threads(self, threads: int) -> "Describing":
        """The same task with another number of threads."""
        return replace(self, threads=threads)

    def digest(self) -> str:
        """SHA-256 of everything that a descriptor or its row depends on, in hexadecimal."""
        facts = {
            "version": __version__,
            "nets": [
                {"manifest": net.manifest.to_json(), "protocol": asdict(protocol)}
                for net, protocol in self.nets
            ],
            "combination": asdict(self.combination),
            "splits": [stamp(split) for split in self.splits],
            "device": self.device,
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def identity(self) -> dict[str, str]:
        """What must be the same on all machines that share the images."""
        facts = {
            "nets": [net.manifest.to_json() for net, _ in self.nets],
            "options": [
                [asdict(protocol) for _, protocol in self.nets],
                asdict(self.combination),
                self.device,
            ],
            "splits": [len(each) for each in self.splits],
        }
        return identified(facts, _Names(self), self.folder)

    def results(self, indices: Iterable[int]) -> Generator[Described, None, None]:
        """Describe some of the images, in the order of ``indices``.

        Raises:
            VggspecError: a bundle is damaged or returns NaN.
            MissingLibraryError: the device was requested by name and is not available.
        """
        with contextlib.ExitStack() as stack:
            applied = [
                Applied(
                    stack.enter_context(BundleNet(net, device=self.device, threads=self.threads)),
                    protocol,
                )
                for net, protocol in self.nets
            ]
            yield from describe(
                applied,
                self._read,
                indices,
                self.combination,
                threads=self.threads,
                batch_pixels=self.batch_pixels,
            )

    def as_data(self, result: Described) -> dict[str, Any]:
        """A result for JSON, without the descriptor itself."""
        return {"index": result.index, "checksum": result.checksum, "unread": result.unread}

    def as_message(self, result: Described) -> dict[str, Any]:
        """A result for JSON, with the descriptor."""
        data = self.as_data(result)
        if result.descriptor is not None:
            row = np.ascontiguousarray(result.descriptor, "<f4")
            data["descriptor"] = base64.b64encode(row.tobytes()).decode()
        return data

    def from_data(self, data: Fields) -> Described:
        """The result that ``as_data`` wrote, or ``as_message``.

        Raises:
            BadFieldError: it is malformed.
        """
        unread = None if data.is_null("unread") else data.text("unread")
        checksum = None if unread is not None else data.integer("checksum", 0, (1 << 32) - 1)
        row = None
        if not data.is_null("descriptor"):
            try:
                text = base64.b64decode(data.text("descriptor", MAX_ENCODED), validate=True)
                row = np.frombuffer(text, "<f4").astype(np.float32)
            except ValueError as error:
                raise data.bad("descriptor", "is no descriptor") from error
            if zlib.crc32(text) != checksum:
                raise data.bad("checksum", "is wrong")
        return Described(
            index=data.integer("index"), descriptor=row, checksum=checksum, unread=unread
        )

    @property
    def _ends(self) -> list[int]:
        """For each split, the index after its last image."""
        return list(itertools.accumulate(map(len, self.splits)))

    def _read(self, index: int) -> bytes:
        split, number = self.place(index)
        return self.splits[split].read(number)


@dataclass(frozen=True, slots=True)
class _Names:
    """The images of all splits, consecutively."""

    task: Describing

    def __len__(self) -> int:
        return len(self.task.indices)

    def name(self, index: int) -> str:
        split, number = self.task.place(index)
        return self.task.splits[split].name(number)


def stamp(images: Images) -> str:
    """SHA-256 of the paths of images and of the sizes and times of their files."""
    digest = Digest()
    for index in range(len(images)):
        name = images.name(index)
        if isinstance(images, RemoteSplit):
            digest.add_digest("", f"{name} {images.version(index)}\n")
            continue
        path = images.place(index)[0] if isinstance(images, ShardSplit) else name
        try:
            digest.add(os.path.abspath(name), os.stat(path))
        except (OSError, ValueError):
            digest.add_digest("", ascii(name))  # unreadable, so only its name counts
    return digest.stamp()
