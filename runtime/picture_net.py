"""A bundle whose graph contains the test protocol: a picture and scales in, posteriors out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, NotFinite, RunFailed
from vggspec.base.catalogue.data import RescaledTooLarge, SmallerThanWindow
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import SCALES, Manifest
from vggspec.runtime.opened_net import OpenedNet, check_inputs
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS, rescaled_size
from vggspec.runtime.session import Port, Session


class PictureNet(OpenedNet):
    """The nets of such a bundle, applied to pictures."""

    def __call__(self, picture: NDArray[np.uint8], scales: Sequence[int]) -> NDArray[np.float64]:
        """Class posteriors ``(K,)`` of a picture ``(H, W, C)``, averaged over all ``scales``.

        Raises:
            VggspecError: the rescaled picture is smaller than a net's window, or too large; or the
                engine fails, or an output is not finite.
        """
        least = self.manifest.input.size
        for scale in scales:
            rows, columns = size = rescaled_size(picture.shape[:2], scale)
            if rows < least[0] or columns < least[1]:
                raise VggspecError(report(SmallerThanWindow(size=size, window=least)))
            if rows * columns > MAX_RESCALED_PIXELS:
                what = RescaledTooLarge(
                    width=columns, height=rows, scale=scale, limit=MAX_RESCALED_PIXELS
                )
                raise VggspecError(report(what))
        feeds: dict[str, NDArray[Any]] = {
            self.manifest.input.name: np.ascontiguousarray(picture),
            SCALES: np.array(scales, np.int64),
        }
        result = self.manifest.result
        posteriors = self._session.run(feeds)[result.name].astype(np.float64)
        if posteriors.shape != (result.channels,):
            why = (
                f"`{result.name}` came out as {posteriors.shape}, with {result.channels} classes"
                " expected"
            )
            raise VggspecError(report(RunFailed(reason=why)))
        if not np.isfinite(posteriors).all():
            raise VggspecError(report(NotFinite(output=result.kind)))
        return posteriors

    def _check_ports(self) -> None:
        check_ports(self._session, self.manifest, self.path)


def check_ports(session: Session, manifest: Manifest, path: str) -> None:
    """Compare the manifest of a bundle with the inputs and outputs of its graph.

    Raises:
        VggspecError: they differ.
    """
    contract, result = manifest.input, manifest.result
    channels = len(contract.mean)
    wanted = {
        contract.name: Port(contract.name, np.dtype(np.uint8), (None, None, channels)),
        SCALES: Port(SCALES, np.dtype(np.int64), (None,)),
    }
    check_inputs(session, wanted, path)
    shapes = {port.name: port.shape for port in session.outputs}
    if shapes.get(result.name) != (result.channels,):
        why = f"it has no output `{result.name}` of {result.channels} classes"
        raise VggspecError(report(EngineFailed(reason=why), path=path))
