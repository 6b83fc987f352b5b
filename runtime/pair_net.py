"""A bundle whose graph compares pictures: two pictures in, their distance out.

Axes: N pairs, H rows and W columns of pixels, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, NotFinite, RunFailed
from vggspec.base.catalogue.distances import SizesDiffer, TooLargeToCompare, TooSmallToCompare
from vggspec.base.catalogue.sizes import BranchesDoNotMeet
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.sizes import fits, nearest
from vggspec.runtime.net import port_of
from vggspec.runtime.opened_net import OpenedNet, check_inputs
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS, normalise
from vggspec.runtime.session import Session

Pixels = NDArray[np.uint8]


class PairNet(OpenedNet):
    """The net of such a bundle, applied to pairs of pictures."""

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

    def _check_ports(self) -> None:
        check_ports(self._session, self.manifest, self.path)

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
    check_inputs(session, wanted, path)
    shapes = {port.name: port.shape for port in session.outputs}
    if len(shapes.get(manifest.result.name, ())) != 1:
        why = f"it has no output `{manifest.result.name}` of a number a pair"
        raise VggspecError(report(EngineFailed(reason=why), path=path))
