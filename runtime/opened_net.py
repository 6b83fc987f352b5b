"""What all nets of bundles share: the manifest, the session that runs the graph, and its end."""

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

from vggspec.base.arguments import Device
from vggspec.base.catalogue.artefacts import EngineFailed
from vggspec.base.closing import Closing
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.opening import Bundle, open_bundle
from vggspec.runtime.open_session import open_session
from vggspec.runtime.session import Port, Session


class OpenedNet(Closing):
    """The net of a bundle, loaded. Several threads may use it.

    Raises:
        VggspecError: it is not a bundle, is damaged, is of another kind, or its graph contradicts
            the manifest.
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
        self.manifest = opened.manifest
        self.path = str(opened.path)
        self._check_kind()
        gray = self.manifest.input.color == "gray"
        self.color: Literal["RGB", "gray"] = "gray" if gray else "RGB"
        """The colours of its pictures."""

        self._session: Session = open_session(opened, device, threads)
        self._check_ports()

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device that runs the net."""
        return self._session.device

    def close(self) -> None:
        """Free the net and its memory."""
        self._session.close()

    def _check_kind(self) -> None:
        """Refuse a manifest of another kind, before anything is loaded.

        Raises:
            VggspecError: it is of another kind.
        """

    @abstractmethod
    def _check_ports(self) -> None:
        """Compare the manifest with the inputs and outputs of the graph.

        Raises:
            VggspecError: they differ.
        """


def check_inputs(session: Session, wanted: Mapping[str, Port], path: str) -> None:
    """Compare all inputs of a graph, by their names, with those that a manifest states.

    Raises:
        VggspecError: they differ.
    """
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
