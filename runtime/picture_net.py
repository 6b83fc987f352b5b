"""A bundle whose graph contains the test protocol: a picture and scales in, posteriors out."""

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, NotFinite, RunFailed
from vggspec.base.catalogue.data import RescaledTooLarge, SmallerThanWindow
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import SCALES, Manifest
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.runtime.open_session import open_session
from vggspec.runtime.preprocess import MAX_RESCALED_PIXELS, rescaled_size
from vggspec.runtime.session import Device, Port, Session


class PictureNet:
    """The nets of such a bundle, applied to pictures. Several threads may call it.

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
        """The device that runs the nets."""
        return self._session.device

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

    def close(self) -> None:
        """Free the nets and their memory."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def check_ports(session: Session, manifest: Manifest, path: str) -> None:
    """Compare the manifest of a bundle with the inputs and outputs of its graph.

    Raises:
        VggspecError: they differ.
    """

    def refusal(why: str) -> VggspecError:
        return VggspecError(report(EngineFailed(reason=why), path=path))

    contract, result = manifest.input, manifest.result
    channels = len(contract.mean)
    wanted = {
        contract.name: Port(contract.name, np.dtype(np.uint8), (None, None, channels)),
        SCALES: Port(SCALES, np.dtype(np.int64), (None,)),
    }
    given = {port.name: port for port in session.inputs}
    if given.keys() != wanted.keys() or not all(
        wanted[name].fits(port) for name, port in given.items()
    ):
        got, said = (
            " and ".join(f"`{port.name}` {port}" for port in ports.values())
            for ports in (given, wanted)
        )
        raise refusal(f"it takes {got}, the manifest says {said}")
    shapes = {port.name: port.shape for port in session.outputs}
    if shapes.get(result.name) != (result.channels,):
        raise refusal(f"it has no output `{result.name}` of {result.channels} classes")
