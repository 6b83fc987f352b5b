"""The places on the images of a data set, as a ``Task``.

What is kept are the boxes, not whether they are right: that is told anew from them, by ``judge``.

Axes: N images.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.fields import MAX_SIDE, BadFieldError, Fields
from vggspec.base.version import __version__
from vggspec.bundle.manifest import Bundle
from vggspec.data.annotated import Annotated
from vggspec.runtime.net import BundleNet
from vggspec.runtime.session import Device
from vggspec.studies.localisation.errors import classes_on
from vggspec.studies.localisation.localise import Ensemble, Localiser, Located, Method, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Locating:
    """Nets asked for the places on annotated images: of the likeliest classes where there is a
    classifier, and of those that are on the image.
    """

    nets: tuple[Bundle, ...]
    classifiers: tuple[Bundle, ...]
    method: Method
    data: Annotated
    classes: tuple[int, ...]
    """The nets' class for each class of the data."""

    indices: NDArray[np.int64]
    """``(N,)``: which images are asked about, in ascending order."""

    device: Device = "auto"

    @property
    def ensemble(self) -> Ensemble[Bundle]:
        """The nets as one.

        Raises:
            VggspecError: they do not go together.
        """
        return Ensemble(self.nets, self.classifiers, self.method)

    @property
    def threads(self) -> int | None:
        """CPU threads of a process; None for all cores."""
        return self.method.threads

    def with_threads(self, threads: int) -> "Locating":
        """The same by so many threads."""
        return replace(self, method=replace(self.method, threads=threads))

    def digest(self) -> str:
        """SHA-256 of all that changes a place, in hexadecimal."""
        facts = {
            "version": __version__,
            "nets": [each.manifest.to_json() for each in self.nets],
            "classifiers": [each.manifest.to_json() for each in self.classifiers],
            "method": asdict(replace(self.method, threads=None, batch_pixels=None)),
            "data": (os.path.abspath(self.data.root), self.data.stamp),
            "indices": hashlib.sha256(self.indices.tobytes()).hexdigest(),
            "classes": self.classes,
            "device": self.device,
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def results(self, indices: Iterable[int]) -> Generator[Located, None, None]:
        """The places on some of the images, in the order of ``indices``.

        Raises:
            VggspecError: a bundle is damaged or answers what is no number.
            MissingLibraryError: the device was asked for by name and cannot be had.
        """
        with contextlib.ExitStack() as stack:
            nets, classifiers = (
                [
                    stack.enter_context(BundleNet(each, device=self.device, threads=self.threads))
                    for each in bundles
                ]
                for bundles in (self.nets, self.classifiers)
            )
            localiser = Localiser(nets, classifiers, self.method)
            yield from localiser(self.data.read, indices, self._asked)

    def as_data(self, result: Located) -> dict[str, Any]:
        """A result for JSON."""
        return {
            "index": result.index,
            "size": result.size,
            "likeliest": [_as_data(place) for place in result.likeliest],
            "asked": [_as_data(place) for place in result.asked],
            "unread": result.unread,
        }

    def from_data(self, data: Fields) -> Located:
        """The result that ``as_data`` has written.

        Raises:
            BadFieldError: it is none, or that of other nets or classes.
        """
        sides = data.integers("size", 0, MAX_SIDE, 2)
        if len(sides) != 2:
            raise data.bad("size", "is not two sides")
        result = Located(
            index=data.integer("index", 0, len(self.data) - 1),
            size=(sides[0], sides[1]),
            likeliest=tuple(map(self._place, data.objects("likeliest"))),
            asked=tuple(map(self._place, data.objects("asked"))),
            unread=None if data.is_null("unread") else data.text("unread"),
        )
        likeliest, asked = 0, []
        if result.unread is None:
            likeliest, asked = self._num_likeliest(), self._asked(result.index)
        if len(result.likeliest) != likeliest or [one.label for one in result.asked] != asked:
            raise BadFieldError("it has other classes")
        return result

    def _place(self, data: Fields) -> Place:
        most = max(each.manifest.result.channels for each in (*self.nets, *self.classifiers))

        def known(key: str) -> float | None:
            return None if data.is_null(key) else data.number(key, -math.inf, math.inf)

        box = None if data.is_null("box") else np.array(data.numbers("box", 4, math.inf))
        if box is not None and len(box) != 4:
            raise data.bad("box", "is not four numbers")
        return Place(
            label=None if data.is_null("label") else data.integer("label", 0, most - 1),
            box=box,
            posterior=known("posterior"),
            score=known("score"),
            windows=data.integer("windows"),
        )

    def _asked(self, index: int) -> list[int]:
        return classes_on(self.data, index, self.classes)

    def _num_likeliest(self) -> int:
        if not self.classifiers:
            return 0
        return min(self.method.top, self.classifiers[0].manifest.result.channels)


def _as_data(place: Place) -> dict[str, Any]:
    return {
        "label": place.label,
        "box": None if place.box is None else place.box.tolist(),
        "posterior": place.posterior,
        "score": place.score,
        "windows": place.windows,
    }
