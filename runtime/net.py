"""A loaded net: applied to images, its outputs checked against the manifest.

Axes: N images, H rows and W columns of pixels, C channels, K classes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import EngineFailed, NotFinite, RunFailed
from vggspec.base.catalogue.distances import ComparesPictures
from vggspec.base.catalogue.fusion import HoldsProtocol
from vggspec.base.diagnostic import VggspecError, report
from vggspec.bundle.manifest import InputContract, Manifest, OutputContract
from vggspec.runtime.opened_net import OpenedNet
from vggspec.runtime.preprocess import normalise
from vggspec.runtime.protocol import View
from vggspec.runtime.session import Arrays, Port, Session

Pixels = NDArray[np.uint8]
Outputs = dict[str, NDArray[np.float64]]
"""By kind; activations by name."""


class BundleNet(OpenedNet):
    """The net of a bundle, applied to decoded images."""

    @property
    def view(self) -> View:
        """The windows in which it sees an image."""
        return view_of(self.manifest)

    @property
    def is_slow_to_change_shape(self) -> bool:
        """Whether a run takes much longer where its shape differs from that of the last one."""
        return self._session.is_slow_to_change_shape

    def __call__(self, images: Pixels) -> Outputs:
        """All outputs for images ``(N, H, W, C)``, RGB or gray: by kind, activations by name.

        Raises:
            VggspecError: the engine fails, or an output is not finite.
        """
        return self._outputs(self._session.run(self._feed(images)), len(images))

    def arrays(self, images: Pixels) -> Arrays:
        """All outputs by name for images ``(N, H, W, C)``, in the graph's own precision.

        Raises:
            VggspecError: the engine fails, or an output is not finite.
        """
        arrays = self._session.run(self._feed(images))
        return {each.name: _checked(arrays, each, len(images)) for each in self.manifest.outputs}

    def apply_all(self, batches: Iterable[Pixels]) -> Iterator[Outputs]:
        """The outputs of each batch, in order.

        A TensorRT session uploads the next batch while it computes one.

        Raises:
            VggspecError: the engine fails, or an output is not finite.
        """
        try:
            yield from self._apply_all(batches)
        except VggspecError as error:
            # With several nets the error has to say which one failed.
            reports = (replace(one, path=one.path or self.path) for one in error.reports)
            raise VggspecError(*reports) from error

    def _check_kind(self) -> None:
        if self.manifest.members:
            raise VggspecError(report(HoldsProtocol(), path=self.path))
        if self.manifest.compares:
            raise VggspecError(report(ComparesPictures(), path=self.path))

    def _check_ports(self) -> None:
        check_ports(self._session, self.manifest, self.path)

    def _apply_all(self, batches: Iterable[Pixels]) -> Iterator[Outputs]:
        from vggspec.runtime.tensorrt.session import TrtSession

        if not isinstance(self._session, TrtSession):
            yield from map(self, batches)
            return
        sizes: list[int] = []

        def feeds() -> Iterator[dict[str, NDArray[Any]]]:
            for images in batches:
                sizes.append(len(images))
                yield self._feed(images)

        for done, arrays in enumerate(self._session.stream(feeds())):
            yield self._outputs(arrays, sizes[done])

    def _feed(self, images: Pixels) -> dict[str, NDArray[Any]]:
        return {self.manifest.input.name: normalise(images, self.manifest.input)}

    def _outputs(self, arrays: Arrays, number: int) -> Outputs:
        found = {each.key: _checked(arrays, each, number) for each in self.manifest.outputs}
        return {key: array.astype(np.float64) for key, array in found.items()}


def check_ports(session: Session, manifest: Manifest, path: str) -> None:
    """Compare the manifest of a bundle with the inputs and outputs of its graph.

    Raises:
        VggspecError: they differ.
    """

    def refusal(why: str) -> VggspecError:
        return VggspecError(report(EngineFailed(reason=why), path=path))

    wanted = port_of(manifest.input, manifest.input.name)
    if len(session.inputs) != 1 or not wanted.fits(session.inputs[0]):
        got = " and ".join(f"`{port.name}` {port}" for port in session.inputs)
        raise refusal(f"it takes {got}, the manifest says `{wanted.name}` {wanted}")
    given = {port.name: port for port in session.outputs}
    for output in manifest.outputs:
        if output.name not in given:
            raise refusal(f"it has no output `{output.name}`")
        shape = given[output.name].shape
        if len(shape) < 2 or shape[1] != output.channels:
            got = f"`{output.name}` is {given[output.name]}"
            raise refusal(f"{got}, the manifest says {output.channels} channels")
        if output.kind == "boxes" and output.channels % 4:
            raise refusal(f"boxes are four numbers each, the manifest says {output.channels}")


def port_of(contract: InputContract, name: str) -> Port:
    """An input of a graph that takes images."""
    height, width = (None, None) if contract.is_dynamic else contract.size
    channels = len(contract.mean)
    if contract.contract == "raw":
        return Port(name, np.dtype(np.uint8), (None, height, width, channels))
    return Port(name, np.dtype(np.float32), (None, channels, height, width))


def view_of(manifest: Manifest) -> View:
    """The windows in which a net sees an image."""
    return View(
        least=manifest.input.size,
        is_dynamic=manifest.input.is_dynamic,
        window=manifest.window,
        stride=manifest.stride,
        sizes=manifest.input.sizes,
    )


def _checked(arrays: Arrays, output: OutputContract, num_images: int) -> NDArray[Any]:
    array = arrays[output.name]
    num_axes = 4 if output.is_map else 2
    if array.ndim != num_axes or array.shape[:2] != (num_images, output.channels):
        names = {"boxes": "numbers", "features": "channels", "activations": "channels"}
        what = names.get(output.kind, "classes")
        why = f"`{output.name}` came out as {array.shape}, with {output.channels} {what} expected"
        raise VggspecError(report(RunFailed(reason=why)))
    if not np.isfinite(array).all():
        of_layer = f"activations of {output.name}"
        kind = of_layer if output.kind == "activations" else output.kind.replace("_", " ")
        raise VggspecError(report(NotFinite(output=kind)))
    return array
