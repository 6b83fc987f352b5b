"""How a net's labels of pixels compare with the masks of a data set, as a ``Task``.

Axes: N images, K classes.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.arguments import Device
from vggspec.base.fields import BadFieldError, Fields
from vggspec.base.recipe import TestProtocol
from vggspec.base.version import __version__
from vggspec.bundle.opening import Bundle
from vggspec.data.confusion import counted
from vggspec.data.decode import BadImageError, decoding
from vggspec.data.masked import Masked
from vggspec.runtime.label_maps import segment
from vggspec.runtime.net import BundleNet
from vggspec.studies.tasks.task import identified


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The pixels of a picture."""

    index: int
    pixels: tuple[tuple[int, int, int], ...] = ()
    """The class by the mask, the class that the net names, and how many pixels have both."""

    unread: str | None = None
    """Why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """A net that labels the pixels of pictures whose masks are known."""

    bundle: Bundle
    protocol: TestProtocol
    data: Masked
    classes: tuple[int, ...]
    """The net's class for each class of the data."""

    indices: NDArray[np.int64]
    """``(N,)``: the pictures, ascending."""

    device: Device = "auto"
    threads: int | None = None

    @property
    def number(self) -> int:
        """K of the net."""
        return self.bundle.manifest.result.channels

    def with_threads(self, threads: int) -> "Comparing":
        """The same task with another number of threads."""
        return replace(self, threads=threads)

    def digest(self) -> str:
        """SHA-256 of everything that a count depends on, in hexadecimal."""
        facts = {
            "version": __version__,
            "net": self.bundle.manifest.to_json(),
            "protocol": asdict(self.protocol),
            "data": (os.path.abspath(self.data.root), self.data.stamp),
            "label_of": self.data.label_of.tolist(),
            "indices": hashlib.sha256(self.indices.tobytes()).hexdigest(),
            "classes": self.classes,
            "device": self.device,
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def identity(self) -> dict[str, str]:
        """What must be the same on all machines that share the pictures."""
        facts = {
            "nets": self.bundle.manifest.to_json(),
            "options": [asdict(self.protocol), self.device],
            "classes": [self.classes, self.data.label_of.tolist()],
        }
        return identified(facts, self.data, self.data.root)

    def results(self, indices: Iterable[int]) -> Generator[Compared, None, None]:
        """Compare some of the pictures, in the order of ``indices``.

        Raises:
            VggspecError: the bundle is damaged or returns NaN.
            MissingLibraryError: the device was requested by name and is not available.
        """
        with contextlib.closing(
            BundleNet(self.bundle, device=self.device, threads=self.threads)
        ) as net:
            for index in indices:
                yield self._compared(net, index)

    def _compared(self, net: BundleNet, index: int) -> Compared:
        try:
            with decoding(self.data.read(index), net.color) as pixels:
                mask = self.data.mask(index, (pixels.shape[0], pixels.shape[1]))
                named = segment(net, pixels, self.protocol).labels
        except BadImageError as error:
            return Compared(index=index, unread=str(error))
        counts = counted(mask, named, np.array(self.classes, np.int64), self.number)
        pairs = zip(*(axis.tolist() for axis in counts.nonzero()), strict=True)
        return Compared(index=index, pixels=tuple((i, j, int(counts[i, j])) for i, j in pairs))

    def as_data(self, result: Compared) -> dict[str, Any]:
        """A result for JSON."""
        return asdict(result)

    def from_data(self, data: Fields) -> Compared:
        """The result that ``as_data`` wrote.

        Raises:
            BadFieldError: it is malformed, or of another net or other data.
        """
        unread = None if data.is_null("unread") else data.text("unread")
        pixels = [Fields(dict(zip("ijn", row, strict=True))) for row in data.lists("pixels", 3)]
        if bool(pixels) == (unread is not None):
            raise BadFieldError("it is neither read nor unread")
        return Compared(
            index=data.integer("index", 0, len(self.data) - 1),
            pixels=tuple(
                (
                    each.integer("i", 0, self.number - 1),
                    each.integer("j", 0, self.number - 1),
                    each.integer("n", 1),
                )
                for each in pixels
            ),
            unread=unread,
        )
