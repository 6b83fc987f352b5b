"""The images that a bundle is verified on: synthetic ones, or pictures of a folder.

Axes: N images, H rows, W columns, C channels.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggspec.base.catalogue.artefacts import TooLargeToVerify
from vggspec.base.catalogue.data import SmallerThanWindow
from vggspec.base.catalogue.verifying import NoImagesToVerify
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.watcher import Progress, Watcher
from vggspec.base.wording import count
from vggspec.bundle.manifest import Manifest
from vggspec.bundle.opening import Bundle
from vggspec.bundle.profile import BatchShape, Profile, choose_profile
from vggspec.bundle.sizes import below
from vggspec.data.pictures import list_images
from vggspec.data.read import Pixels, read_image
from vggspec.runtime.preprocess import rescalings
from vggspec.studies.verification.cases import cases, within

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBatch:
    """A batch of images, and the profile that runs it."""

    profile: int | None
    """None if no profile takes it: ONNX Runtime takes larger images too."""

    point: str
    """The point of the profile, as in ``Case``, or the name of the picture."""

    shape: BatchShape | None
    """Images, rows and columns; None for pictures, which differ in size."""

    images: Pixels
    """uint8 ``(N, H, W, C)``."""


def synthetic(
    bundle: Bundle, profiles: Sequence[Profile], seed: int, watch: Watcher
) -> Iterator[ImageBatch]:
    """Synthetic images at the sizes of every profile.

    Raises:
        VggspecError: all sizes are too large.
    """
    manifest = bundle.manifest
    every_case = cases(profiles, manifest.input.sizes)
    found = within(every_case, is_engine=manifest.engine is not None)
    if not found:
        smallest = min((case.shape for case in every_case), key=prod)
        raise VggspecError(report(TooLargeToVerify(shape=smallest), path=str(bundle.path)))
    if len(found) < len(every_case):
        left_out = count(len(every_case) - len(found), "shape")
        watch.note(f"{left_out} left out: too many pixels for one run")
    for done, case in enumerate(found):
        watch.progress(Progress(doing="comparing", done=done, total=len(found), unit="shapes"))
        images = natural_images(case.shape, len(manifest.input.mean), seed)
        yield ImageBatch(profile=case.profile, point=case.point, shape=case.shape, images=images)
    watch.progress(Progress(doing="comparing", done=len(found), total=len(found), unit="shapes"))


def pictures(
    folder: str | os.PathLike[str],
    manifest: Manifest,
    profiles: Sequence[Profile],
    watch: Watcher,
    *,
    is_bounded: bool,
) -> Iterator[ImageBatch]:
    """The pictures of a folder at every scale of the test protocol, one by one.

    If ``is_bounded``, those that no profile takes are left out.

    Raises:
        VggspecError: there are no pictures, none fits a profile, or one cannot be read.
    """
    paths = list_images(folder, watch)
    if not paths:
        raise _no_images("the folder contains no images", folder)
    num_outside = num_given = 0
    for done, path in enumerate(paths):
        watch.progress(Progress(doing="comparing", done=done, total=len(paths), unit="pictures"))
        for images in _rescaled(path, manifest):
            profile = choose_profile(profiles, images.shape[:3])
            if profile is None and is_bounded:
                num_outside += 1
                continue
            num_given += 1
            yield ImageBatch(profile=profile, point=path.name, shape=None, images=images)
    if num_outside:
        watch.note(f"{count(num_outside, 'rescaled picture')} left out: no profile takes that size")
    if not num_given:
        raise _no_images("no picture fits a profile of the engine", folder)
    watch.progress(Progress(doing="comparing", done=len(paths), total=len(paths), unit="pictures"))


def _no_images(reason: str, folder: str | os.PathLike[str]) -> VggspecError:
    return VggspecError(report(NoImagesToVerify(reason=reason), path=os.fspath(folder)))


def _rescaled(path: Path, manifest: Manifest) -> Iterator[Pixels]:
    """A picture at each scale, as a batch of one; its centre if the net takes one size only, or
    the largest part of it in the middle for which the net's branches meet.
    """
    contract, test = manifest.input, manifest.test
    pixels = read_image(path, contract.color)
    for rescaled in rescalings(pixels, test.scales, test.resize):
        size = rescaled.shape[0], rescaled.shape[1]
        if size[0] < contract.size[0] or size[1] < contract.size[1]:
            what = SmallerThanWindow(size=size, window=contract.size)
            raise VggspecError(report(what, path=str(path)))
        rows, columns = below(contract.sizes, size) if contract.is_dynamic else contract.size
        top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
        yield rescaled[None, top : top + rows, left : left + columns]


def natural_images(shape: BatchShape, channels: int, seed: int) -> Pixels:
    """Images ``(N, H, W, C)`` with the statistics of photographs: large smooth patches, fainter
    fine ones, a little noise. The images of a batch differ.

    Pure noise would mislead: the first convolutions average it to the same gray everywhere.
    """
    number, rows, columns = shape
    rng = np.random.default_rng((seed, *shape))
    images = np.full((number, rows, columns, channels), 120.0, np.float32)
    side, contrast = 2, 60.0
    while side < min(rows, columns):
        for image in images:
            # Photographs vary mostly in brightness, which all channels share.
            patches = rng.normal(0, 1, (side, side, 1)) + rng.normal(0, 0.4, (side, side, channels))
            image += contrast * _enlarged(patches, (rows, columns))
        side, contrast = 2 * side, contrast / 1.7
    images += rng.normal(0, 4, images.shape)
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def _enlarged(patches: Floats, size: tuple[int, int]) -> NDArray[np.float32]:
    """Numbers ``(side, side, C)`` interpolated to an image of ``size``, bilinearly."""
    down, across = (_weights(patches.shape[0], length) for length in size)
    smooth: NDArray[np.float32] = np.einsum("is,jt,stc->ijc", down, across, patches, optimize=True)
    return smooth


def _weights(number: int, length: int) -> NDArray[np.float32]:
    """Weights ``(length, number)`` that interpolate linearly from end to end."""
    places = np.linspace(0, number - 1, length)
    left = np.minimum(places.astype(int), number - 2)
    weights = np.zeros((length, number), np.float32)
    weights[np.arange(length), left] = 1 - (places - left)
    weights[np.arange(length), left + 1] = places - left
    return weights
