"""The boxes on the images of a data set, as a ``Task``.

The journal keeps the boxes, not whether they are right: ``judge`` decides that again.

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

from vggspec.base.arguments import Device
from vggspec.base.fields import MAX_SIDE, BadFieldError, Fields
from vggspec.base.version import __version__
from vggspec.bundle.opening import Bundle
from vggspec.data.annotated import Annotated
from vggspec.runtime.net import BundleNet
from vggspec.studies.localisation.errors import classes_on
from vggspec.studies.localisation.localiser import (
    ClassBox,
    Ensemble,
    Localiser,
    Located,
    Method,
)
from vggspec.studies.tasks.task import identified


@dataclass(frozen=True, slots=True, kw_only=True)
class Locating:
    """Nets that find the boxes on annotated images: of the classifier's likeliest classes, and of
    the classes that are on the image.
    """

    nets: tuple[Bundle, ...]
    classifiers: tuple[Bundle, ...]
    method: Method
    data: Annotated
    classes: tuple[int, ...]
    """The nets' class for each class of the data."""

    indices: NDArray[np.int64]
    """``(N,)``: the images to locate objects on, ascending."""

    device: Device = "auto"

    @property
    def ensemble(self) -> Ensemble[Bundle]:
        """The nets, checked.

        Raises:
            VggspecError: they do not match.
        """
        return Ensemble(self.nets, self.classifiers, self.method)

    @property
    def threads(self) -> int | None:
        """CPU threads of each process; None for all cores."""
        return self.method.threads

    def with_threads(self, threads: int) -> "Locating":
        """The same task with another number of threads."""
        return replace(self, method=replace(self.method, threads=threads))

    def digest(self) -> str:
        """SHA-256 of everything that a box depends on, in hexadecimal."""
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

    def identity(self) -> dict[str, str]:
        """What must be the same on all machines that share the images."""
        facts = {
            "nets": [each.manifest.to_json() for each in (*self.nets, *self.classifiers)],
            "options": [
                len(self.nets),
                asdict(replace(self.method, threads=None, batch_pixels=None)),
                self.device,
            ],
            "classes": self.classes,
        }
        return identified(facts, self.data, self.data.root)

    def results(self, indices: Iterable[int]) -> Generator[Located, None, None]:
        """Find the boxes on some of the images, in the order of ``indices``.

        Raises:
            VggspecError: a bundle is damaged or returns NaN.
            MissingLibraryError: the device was requested by name and is not available.
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
            "likeliest": [_as_data(one) for one in result.likeliest],
            "asked": [_as_data(one) for one in result.asked],
            "unread": result.unread,
        }

    def from_data(self, data: Fields) -> Located:
        """The result that ``as_data`` wrote.

        Raises:
            BadFieldError: it is malformed, or of other nets or classes.
        """
        sides = data.integers("size", 0, MAX_SIDE, 2)
        if len(sides) != 2:
            raise data.bad("size", "is not two sides")
        result = Located(
            index=data.integer("index", 0, len(self.data) - 1),
            size=(sides[0], sides[1]),
            likeliest=tuple(map(self._class_box, data.objects("likeliest"))),
            asked=tuple(map(self._class_box, data.objects("asked"))),
            unread=None if data.is_null("unread") else data.text("unread"),
        )
        likeliest, asked = 0, []
        if result.unread is None:
            likeliest, asked = self._num_likeliest(), self._asked(result.index)
        if len(result.likeliest) != likeliest or [one.label for one in result.asked] != asked:
            raise BadFieldError("it has other classes")
        return result

    def _class_box(self, data: Fields) -> ClassBox:
        most = max(each.manifest.result.channels for each in (*self.nets, *self.classifiers))

        def known(key: str) -> float | None:
            return None if data.is_null(key) else data.number(key, -math.inf, math.inf)

        box = None if data.is_null("box") else np.array(data.numbers("box", 4, math.inf))
        if box is not None and len(box) != 4:
            raise data.bad("box", "is not four numbers")
        return ClassBox(
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


def _as_data(one: ClassBox) -> dict[str, Any]:
    return {
        "label": one.label,
        "box": None if one.box is None else one.box.tolist(),
        "posterior": one.posterior,
        "score": one.score,
        "windows": one.windows,
    }
