"""A bundle whose graph compares pictures: two pictures in, their distance out.

Axes: N pairs, H rows and W columns of pixels, C channels.
"""

import os
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, NotFinite, RunFailed
from vggspec.base.catalogue.distances import SizesDiffer, TooLargeToCompare, TooSmallToCompare
from vggspec.base.catalogue.sizes import BranchesDoNotMeet
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.bundle.sizes import fits, nearest
from vggspec.runtime.net import port_of
from vggspec.runtime.open_session import open_session
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS, normalise
from vggspec.runtime.session import Device, Session

Pixels = NDArray[np.uint8]


class PairNet:
    """The net of such a bundle, applied to pairs of pictures. Several threads may call it.

    Raises:
        VggspecError: it is not a bundle, is damaged, or its graph contradicts the manifest.
        MissingLibraryError: ``device`` is not available.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        *,
        device: Device = "auto",
        threads: int | None = None,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self.manifest: Manifest = opened.manifest
        self.path = str(opened.path)
        self.color: Literal["RGB", "gray"] = (
            "gray" if self.manifest.input.color == "gray" else "RGB"
        )
        """The colours of its pictures."""

        self._session: Session = open_session(opened, device, threads)
        check_ports(self._session, self.manifest, self.path)

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that runs the net."""
        return self._session.device

    def __call__(self, first: Pixels, second: Pixels) -> float:
        """The distance of two pictures ``(H, W, C)``.

        Raises:
            VggspecError: the pictures differ in size, or are too small, too large, or of a size for
                which the net's branches do not meet; or the engine fails, or the distance is not
                finite.
        """
        self._check_sizes(first, second)
        arrays = self._session.run(pair_feeds(self.manifest, first[None], second[None]))
        name = self.manifest.result.name
        if arrays[name].shape != (1,):
            why = f"`{name}` came out as {arrays[name].shape}, and one number was expected"
            raise VggspecError(report(RunFailed(reason=why)))
        distance = float(arrays[name][0])
        if not np.isfinite(distance):
            raise VggspecError(report(NotFinite(output="distances")))
        return distance

    def close(self) -> None:
        """Free the net and its memory."""
        self._session.close()

    def _check_sizes(self, first: Pixels, second: Pixels) -> None:
        contract = self.manifest.input
        (rows, columns), other = size, _ = first.shape[:2], second.shape[:2]
        if size != other:
            raise VggspecError(report(SizesDiffer(first=size, second=other)))
        if rows < contract.size[0] or columns < contract.size[1]:
            raise VggspecError(report(TooSmallToCompare(size=size, least=contract.size)))
        if rows * columns > MAX_RESCALED_PIXELS:
            raise VggspecError(report(TooLargeToCompare(size=size, limit=MAX_RESCALED_PIXELS)))
        if contract.sizes != "any" and not fits(contract.sizes, size):
            what = BranchesDoNotMeet(
                size=size,
                fits=str(contract.sizes),
                nearest=nearest(contract.sizes, size, contract.size),
                is_rescaled=False,
            )
            raise VggspecError(report(what))


def pair_feeds(manifest: Manifest, first: Pixels, second: Pixels) -> dict[str, NDArray[Any]]:
    """What such a graph takes for pictures ``(N, H, W, C)``, by the names of its inputs."""
    pairs = zip(manifest.inputs, (first, second), strict=True)
    return {name: normalise(pictures, manifest.input) for name, pictures in pairs}


def check_ports(session: Session, manifest: Manifest, path: str) -> None:
    """Compare the manifest of a bundle with the inputs and outputs of its graph.

    Raises:
        VggspecError: they differ.
    """
    wanted = {name: port_of(manifest.input, name) for name in manifest.inputs}
    given = {port.name: port for port in session.inputs}
    if given.keys() != wanted.keys() or not all(
        wanted[name].fits(port) for name, port in given.items()
    ):
        got, said = (
            " and ".join(f"`{port.name}` {port}" for port in ports.values())
            for ports in (given, wanted)
        )
        why = f"it takes {got}, the manifest says {said}"
        raise VggspecError(report(EngineFailed(reason=why), path=path))
    shapes = {port.name: port.shape for port in session.outputs}
    if len(shapes.get(manifest.result.name, ())) != 1:
        why = f"it has no output `{manifest.result.name}` of a number a pair"
        raise VggspecError(report(EngineFailed(reason=why), path=path))
