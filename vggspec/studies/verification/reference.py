"""The nets that a verification runs, as functions from images to outputs.

The bundle's own net runs in its session. The reference is the same net in fp32: the bundle's graph
in ONNX Runtime, or its spec and weights in PyTorch.

Axes: N images, H rows, W columns, C channels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from vggspec.base.catalogue.verifying import NothingToVerifyAgainst, NoWeightsToVerify
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.optional import require
from vggspec.bundle.manifest import FACTORS, SCALES, WEIGHTS, Manifest
from vggspec.bundle.opening import Bundle
from vggspec.compiler.bundling.description import input_of
from vggspec.compiler.bundling.net import lowered_of, member_of, network_of
from vggspec.compiler.factors import read_factors
from vggspec.compiler.ir import Network
from vggspec.compiler.weights import open_weights
from vggspec.data.read import Pixels
from vggspec.runtime import net, pair_net, picture_net
from vggspec.runtime.preprocess import normalise
from vggspec.runtime.session import Arrays, Session
from vggspec.studies.verification.ranges import Forward, LargestNumbers

if TYPE_CHECKING:
    import torch

    from vggspec.compiler.backends.torch.module import SpecModule

Against = Literal["onnxrt", "torch"]


def on_images(session: Session, bundle: Bundle) -> Forward:
    """A bundle's session as a function of images.

    Raises:
        VggspecError: the session's inputs or outputs are not those of the manifest.
    """
    manifest = bundle.manifest
    room = pair_net if manifest.compares else picture_net if manifest.members else net
    room.check_ports(session, manifest, str(bundle.path))
    return _applied(session, manifest)


@contextmanager
def open_reference(
    bundle: Bundle, against: Against, largest: LargestNumbers | None
) -> Iterator[Forward]:
    """The reference, while the block lasts. It notes the numbers of its layers in ``largest``.

    Raises:
        VggspecError: the bundle lacks the graph or the weights.
        MissingLibraryError: PyTorch is required and not installed.
    """
    if against == "torch":
        yield _in_torch(bundle, largest)
        return
    from vggspec.runtime.ort_session import OrtSession

    if bundle.reference is None:
        raise VggspecError(report(NothingToVerifyAgainst(), path=str(bundle.path)))
    # As it was written, not in the form that a session prefers.
    graph = bundle.reference.read_bytes() if largest is None else largest.graph(bundle.reference)
    with OrtSession(bundle.reference, "cpu", graph=graph) as session:
        applied = _applied(session, bundle.manifest)
        yield applied if largest is None else largest.observing_outputs(applied)


def one_by_one(net: Forward, images: Pixels) -> Arrays:
    """The outputs of a batch, computed image by image.

    The reference runs this way: it takes less memory, and a bundle that mixes up the images of a
    batch is found.
    """
    return concatenated([net(images[i : i + 1]) for i in range(len(images))])


def concatenated(outputs: Sequence[Arrays]) -> Arrays:
    """The outputs of several batches as those of one."""
    return {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}


def _applied(session: Session, manifest: Manifest) -> Forward:
    if manifest.members:
        return _applied_to_pictures(session, manifest)
    if manifest.compares:
        return _applied_to_pairs(session, manifest)

    def apply(images: Pixels) -> Arrays:
        return session.run({manifest.input.name: normalise(images, manifest.input)})

    return apply


def _applied_to_pictures(session: Session, manifest: Manifest) -> Forward:
    """A session that takes pictures, each at the scale of its smaller side: nothing is rescaled."""

    def apply(images: Pixels) -> Arrays:
        outputs = []
        for image in images:
            scales = np.array([min(image.shape[:2])], np.int64)
            given = session.run({manifest.input.name: image, SCALES: scales})
            outputs.append({name: array[np.newaxis] for name, array in given.items()})
        return concatenated(outputs)

    return apply


def _applied_to_pairs(session: Session, manifest: Manifest) -> Forward:
    """A session that compares pictures: each with its mirror image. Distances are ``(N, 1)``."""

    def apply(images: Pixels) -> Arrays:
        arrays = session.run(pair_net.pair_feeds(manifest, images, _mirrored(images)))
        name = manifest.result.name
        return {**arrays, name: arrays[name].reshape(-1, 1)}

    return apply


def _mirrored(images: Pixels) -> Pixels:
    return images[:, :, ::-1]


def _in_torch(bundle: Bundle, largest: LargestNumbers | None) -> Forward:
    require("torch", "comparing with PyTorch")
    import torch

    manifest = bundle.manifest
    if manifest.members:
        return _members_in_torch(bundle)
    module = _module(bundle)
    if manifest.compares:
        compared = _distance_in_torch(bundle, module)
        return compared if largest is None else largest.observing_module(module, compared)
    contract = replace(manifest.input, contract="float")

    def apply(images: Pixels) -> Arrays:
        with torch.inference_mode():
            given = module(torch.from_numpy(normalise(images, contract)))
        tensors = given if isinstance(given, dict) else {manifest.result.name: given}
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    return apply if largest is None else largest.observing_module(module, apply)


def _distance_in_torch(bundle: Bundle, features: "SpecModule") -> Forward:
    """The distance of each image and its mirror image, by the module that losses use."""
    import torch

    from vggspec.compiler.backends.torch.perceptual import Perceptual

    manifest = bundle.manifest
    image = input_of(manifest.input, lowered_of(bundle))
    features.network = replace(features.network, input=image)
    has_factors = any(entry.path == FACTORS for entry in manifest.files)
    path = str(bundle.path / FACTORS) if has_factors else None
    module = Perceptual(features, read_factors(path, features.network), (0.0, 255.0))

    def apply(images: Pixels) -> Arrays:
        first, second = (
            torch.from_numpy(each.transpose(0, 3, 1, 2).astype(np.float32))
            for each in (images, _mirrored(images))
        )
        with torch.inference_mode():
            return {manifest.result.name: module(first, second).numpy().reshape(-1, 1)}

    return apply


def _members_in_torch(bundle: Bundle) -> Forward:
    """The nets of a graph that contains the test protocol, and the averages around them."""
    import torch

    from vggspec.compiler.backends.torch import module as torch_module

    manifest = bundle.manifest
    modules = []
    for member in manifest.members:
        network = member_of(bundle, member)
        if member.weights == manifest.model:
            state = _embedded_weights(bundle, network, f"{member.name}/")
            module = torch_module.with_state(network, state)
        else:
            module = torch_module.loaded(network, open_weights(bundle.path / member.weights))
        modules.append((module.eval(), member.input))

    def apply(images: Pixels) -> Arrays:
        sides = [images, images[:, :, ::-1]] if manifest.test.flip else [images]
        with torch.inference_mode():
            posteriors = [
                module(torch.from_numpy(normalise(side, contract))).numpy()
                for module, contract in modules
                for side in sides
            ]
        return {manifest.result.name: np.stack(posteriors).mean(axis=0, dtype=np.float64)}

    return apply


def _module(bundle: Bundle) -> "SpecModule":
    """The bundle's spec as a PyTorch module with the bundle's weights, in fp32."""
    from vggspec.compiler.backends.torch import module as torch_module

    network = network_of(bundle)
    path = bundle.path / WEIGHTS
    if path.is_file():
        return torch_module.loaded(network, open_weights(path)).eval()
    return torch_module.with_state(network, _embedded_weights(bundle, network)).eval()


def _embedded_weights(
    bundle: Bundle, network: Network, prefix: str = ""
) -> "dict[str, torch.Tensor]":
    """The weights of a bundle whose graph contains them, under names that begin with ``prefix``."""
    if bundle.model.suffix != ".onnx":
        raise VggspecError(report(NoWeightsToVerify(missing=WEIGHTS), path=str(bundle.path)))
    import onnx
    import torch
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in onnx.load(bundle.model).graph.initializer}
    state = {}
    for param in network.params():
        name = prefix + param.name
        if name not in tensors:
            raise VggspecError(report(NoWeightsToVerify(missing=name), path=str(bundle.model)))
        array = numpy_helper.to_array(tensors[name]).astype(np.float32)
        state[param.name] = torch.from_numpy(array.copy())
    return state
