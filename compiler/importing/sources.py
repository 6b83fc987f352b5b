"""The source of the weights in a checkpoint, and the input that they expect.

Sources: torchvision's documentation of ``VGG16_Weights``; timm's ``IMAGENET_DEFAULT_MEAN``;
mmpretrain's ``configs/_base_/datasets/imagenet_bs32_pil_resize.py``; ``imagenet_utils.py`` of
Keras, mode ``caffe``; the model cards of ``VGG_ILSVRC_16_layers``; ``vgg_preprocessing.py`` of
TF-slim; ``cnn_imagenet_minimal.m`` of MatConvNet.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vggspec.base.catalogue.artefacts import UnknownCheckpoint
from vggspec.base.catalogue.checkpoint_files import DamagedCheckpoint
from vggspec.base.catalogue.importing import UnknownNormalisation
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.fields import BadFieldError
from vggspec.base.recipe import ImportedFrom
from vggspec.compiler.importing.checkpoint import Checkpoint
from vggspec.compiler.importing.layouts import slots_of
from vggspec.compiler.importing.matching import Matched
from vggspec.compiler.importing.modules import is_of_classifier
from vggspec.compiler.input_contract import ILSVRC_MEAN, agree, expected, is_said, line, other
from vggspec.compiler.ir import IMAGE, Color, ImageInput, Network
from vggspec.compiler.weights import Array, Metadata, metadata_of

Name = ImportedFrom


@dataclass(frozen=True, slots=True)
class Source:
    """A collection of weights whose images were all normalised in one way."""

    name: str
    mean: tuple[float, float, float]
    """Red, green, blue, 0 to 255."""

    std: tuple[float, float, float] | None = None
    color: Color = "RGB"
    """The order in which the first layer takes them."""

    def input(self, image: ImageInput) -> ImageInput:
        """The input of a spec as these weights expect it, in the order of their channels."""
        in_rgb = replace(image, color="RGB", mean=self.mean, std=self.std, scale=1.0)
        return in_color(in_rgb, self.color)


_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("torchvision", _MEAN, _STD),
        Source("timm", _MEAN, _STD),
        Source("mmpretrain", _MEAN, _STD),
        Source("keras", ILSVRC_MEAN, color="BGR"),
        Source("caffe", ILSVRC_MEAN, color="BGR"),
        Source("tf-slim", ILSVRC_MEAN),
        Source("matconvnet", ILSVRC_MEAN),
    )
}

#: torchvision's weights of the features alone, whose classifier is NaN: trained on
#: Caffe's pixels (``VGG16_Weights.IMAGENET1K_FEATURES``).
_FEATURES_ALONE = Source("torchvision", (123.0, 117.0, 104.0))

#: torchvision's GoogLeNet, which normalises its input again (``transform_input``): to -1 … 1.
_INCEPTION = Source("torchvision", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))

#: Conv layers of the nets A, B, D and E, which are all that the collections contain.
_PUBLISHED = (8, 10, 13, 16)

_NAMES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("mmpretrain", re.compile(r"(.*\.)?features\.\d+\.conv", re.DOTALL)),
    ("torchvision", re.compile(r"(.*\.)?features\.\d+", re.DOTALL)),
    ("keras", re.compile(r"(.*[./])?block\d+_conv\d+", re.DOTALL)),
    ("tf-slim", re.compile(r"(.*/)?vgg_\w+/conv\d+/conv\d+_\d+", re.DOTALL)),
)
_OF_INCEPTION = re.compile(r"(.*\.)?inception\d[a-e]\.branch\d\..*", re.DOTALL)
_TIMM = re.compile(r"(.*\.)?(pre_logits\.fc\d|head\.fc)", re.DOTALL)


_BY_NAMES, _BY_FORMAT = "the layers' names", "the format of the file"


@dataclass(frozen=True, slots=True)
class Expected:
    """The input that the weights expect, and how that is known."""

    input: ImageInput
    """Complete, and in the spec's order of channels."""

    source: str
    """The source of the weights; ``spec`` if the spec defines the input."""

    is_turned: bool
    """Whether the first layer takes its channels in another order than the spec's."""

    guessed_by: str | None
    """What it is inferred from: the names of the layers, or the format of the file."""


def expectation(
    image: ImageInput, matched: Matched, checkpoint: Checkpoint, named: str | None, *, is_bgr: bool
) -> Expected:
    """What the weights of a checkpoint expect, for a net whose spec has that input.

    ``named`` is the source that the user names, one of ``SOURCES`` or ``spec``; ``is_bgr`` is
    whether the first layer takes BGR.

    Raises:
        VggspecError: it is not known, or the spec and the checkpoint contradict each other.
    """
    claim = None if named == "spec" else _claim(image, matched, checkpoint, named, is_bgr=is_bgr)
    if claim is not None and not claim.is_certain and image.mean is not None:
        claim = None  # small nets are named after torchvision's, too
    color: Color = "BGR" if is_bgr else image.color if claim is None else claim.input.color
    is_turned = color != image.color
    if claim is None:
        measured = None if image.mean is not None or is_bgr else _measured(checkpoint, image)
        if measured is not None:
            return Expected(replace(image, mean=measured), "spec", is_turned=False, guessed_by=None)
        if image.mean is None:
            shown = replace(image, mean=ILSVRC_MEAN if image.channels == 3 else (33.3,))
            what_open = UnknownNormalisation(line=line(shown), sees_colours=image.channels == 3)
            raise VggspecError(report(what_open, path=checkpoint.path))
        return Expected(image, "spec", is_turned, guessed_by=None)
    wanted = in_color(claim.input, image.color)
    if is_said(image):
        found = image if image.mean is not None else replace(image, mean=wanted.mean)
        if not agree(found, wanted):
            what = other(image, wanted, claim.source, is_import=True)
            raise VggspecError(report(what, path=checkpoint.path))
        wanted = found
    return Expected(wanted, claim.source, is_turned, claim.guessed_by)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What weights expect, in their own order of channels, apart from what the spec says."""

    input: ImageInput
    source: str
    guessed_by: str | None
    is_certain: bool
    """Whether a spec that contradicts it is probably wrong."""


def _claim(
    image: ImageInput, matched: Matched, checkpoint: Checkpoint, named: str | None, *, is_bgr: bool
) -> _Claim | None:
    metadata = own_metadata(checkpoint)
    own = expected(metadata, image)
    if named is None and own is not None:
        return _Claim(own, metadata.source or "spec", guessed_by=None, is_certain=True)
    of_file = checkpoint.known.source
    name = named or source_of(matched, checkpoint)
    if name is None or image.channels != 3:
        return None
    source = SOURCES[name]
    is_published = len(_conv_names(matched)) in _PUBLISHED
    if named is None and of_file is not None:
        return _by_format(image, source, checkpoint.known.mean, is_published=is_published)
    if named is None and is_bgr and source.color == "RGB":
        source = SOURCES["caffe"]  # conversions of the authors' nets have torchvision's names, too
    elif source.name == "torchvision" and _is_features_alone(matched, checkpoint):
        source = _FEATURES_ALONE
    elif source.name == "torchvision" and any(map(_OF_INCEPTION.fullmatch, _conv_names(matched))):
        source = _INCEPTION
    is_certain = named is not None or is_published
    by = _BY_NAMES if named is None else None
    return _Claim(source.input(image), source.name, by, is_certain)


def _by_format(
    image: ImageInput, source: Source, mean: tuple[float, ...] | None, *, is_published: bool
) -> _Claim:
    """What a file in a collection's own format expects: its order of channels, and the mean that
    the file has, or that all have of the published nets; of others a mean of the spec is as good.
    """
    if mean is not None:
        red, green, blue = mean
        source = replace(source, mean=(red, green, blue))
    elif image.mean is not None and not is_published:
        own = in_color(image, source.color)
        return _Claim(own, source.name, _BY_FORMAT, is_certain=True)
    by = _BY_FORMAT if mean is None else None
    return _Claim(source.input(image), source.name, by, is_certain=True)


def claim(
    image: ImageInput, matched: Matched, checkpoint: Checkpoint, named: str | None
) -> tuple[ImageInput, str, str | None] | None:
    """The complete input that the weights of a checkpoint expect, in their own order of channels,
    the collection, and what it is inferred from; None where nothing says it. ``named`` is the
    collection that the user names.

    Raises:
        VggspecError: the metadata of the checkpoint is malformed.
    """
    found = _claim(image, matched, checkpoint, named, is_bgr=False)
    return None if found is None else (found.input, found.source, found.guessed_by)


def source_of(matched: Matched, checkpoint: Checkpoint) -> str | None:
    """The collection of the weights by the format of the file, or by the names of the layers."""
    return checkpoint.known.source or _by_names(matched)


def own_metadata(checkpoint: Checkpoint) -> Metadata:
    """The metadata of a weights file; empty for other files.

    Raises:
        VggspecError: it is malformed.
    """
    try:
        return metadata_of(checkpoint.metadata)
    except BadFieldError as error:
        what = DamagedCheckpoint(reason=str(error))
        raise VggspecError(report(what, path=checkpoint.path)) from error


def _measured(checkpoint: Checkpoint, image: ImageInput) -> tuple[float, ...] | None:
    """The mean of the images that a net of ours was trained on, where its weights say it."""
    metadata = own_metadata(checkpoint)
    is_ours = metadata.source in (None, "spec") and metadata.color in (None, image.color)
    mean = metadata.mean
    return mean if is_ours and mean is not None and len(mean) == image.channels else None


def turn_first_layer(network: Network, arrays: dict[str, Array], path: str) -> None:
    """Let the layers that read the image take RGB instead of BGR, or the other way round; ``path``
    is the file of the arrays.

    Raises:
        VggspecError: one has groups, each with channels of its own, or joins the image with others.
    """
    slots = {slot.layer.name: slot for slot in slots_of(network)}
    turned = {IMAGE}  # and what has its channels in the order of the image's
    for layer in network.layers:
        if turned.isdisjoint(layer.inputs):
            continue
        slot = slots.get(layer.name)
        names = [param.name for param in layer.params]
        if slot is None:
            if layer.op.is_join:
                raise _unturnable(f"`{layer.name}` reads the image beside other maps", path)
            turned.add(layer.name)
        elif slot.kernel is None:
            arrays |= {name: np.ascontiguousarray(arrays[name][::-1]) for name in names}
            turned.add(layer.name)
        elif slot.kernel[1] != network.input.channels:
            raise _unturnable(f"`{layer.name}` has groups", path)
        else:
            weight = arrays[names[0]]
            found = weight.reshape(slot.kernel)[:, ::-1]
            arrays[names[0]] = np.ascontiguousarray(found).reshape(weight.shape)


def _unturnable(why: str, path: str) -> VggspecError:
    reason = f"{why}, and cannot be turned from BGR to RGB or back"
    return VggspecError(report(UnknownCheckpoint(reason=reason), path=path))


def in_color(image: ImageInput, color: Color) -> ImageInput:
    """The same input with its channels in that order."""
    if image.color == color:
        return image
    mean = None if image.mean is None else image.mean[::-1]
    std = None if image.std is None else image.std[::-1]
    return replace(image, color=color, mean=mean, std=std)


def _is_features_alone(matched: Matched, checkpoint: Checkpoint) -> bool:
    tensors = [checkpoint.tensors[name] for name in matched.unused if is_of_classifier(name)]
    return bool(tensors) and all(np.isnan(tensor).all() for tensor in tensors)


def _by_names(matched: Matched) -> str | None:
    """The source of the weights, by the names of all conv layers."""
    names = _conv_names(matched)
    for source, pattern in _NAMES:
        if names and all(pattern.fullmatch(name) for name in names):
            if source == "torchvision" and any(
                _TIMM.fullmatch(pair.module.name) for pair in matched.pairs
            ):
                return "timm"
            return source
    return None


def _conv_names(matched: Matched) -> Sequence[str]:
    return [
        pair.module.name
        for pair in matched.pairs
        if not pair.slot.is_norm and pair.slot.layer.op.keyword == "conv"
    ]
