"""How pixels become the numbers that a net takes: what its spec says, and what its weights expect.

A net silently gives wrong answers if its input is not normalised like the images that it was
trained on. So imported weights record what they expect, and compiling and resuming use this module.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from vggspec.base.catalogue.importing import OtherNormalisation
from vggspec.base.diagnostic import VggspecError, report
from vggspec.compiler.ir import ImageInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vggspec.compiler.lower import Lowered
    from vggspec.compiler.weights import Metadata, WeightsFile

#: Mean of the ILSVRC training images, RGB, 0 to 255: what the paper's nets subtract.
ILSVRC_MEAN = (123.68, 116.779, 103.939)

MeanFrom = Literal["spec", "weights", "ILSVRC", "bundle"]

#: By how many grey levels two means may differ, and by which share two factors, and be the same:
#: the numbers are quoted with three to six digits.
SAME_LEVEL, SAME_SHARE = 0.02, 1e-3


def is_said(image: ImageInput) -> bool:
    """Whether a spec defines how its input is normalised."""
    return image.mean is not None or image.std is not None or image.scale != 1


def expected(metadata: "Metadata", image: ImageInput) -> ImageInput | None:
    """The input that the weights expect, in their order of channels; None if they do not define it
    completely, as weights trained by earlier versions.
    """
    mean, std, scale = metadata.mean, metadata.std, metadata.scale
    if mean is None or scale is None or len(mean) != image.channels:
        return None
    if std is not None and len(std) != image.channels:
        return None
    color = image.color if metadata.color is None else metadata.color
    return replace(image, color=color, mean=mean, std=std, scale=scale)


def complete(image: ImageInput, metadata: "Metadata", path: str) -> tuple[ImageInput, MeanFrom]:
    """The complete input of a spec, and the source of what its line leaves out: the weights with
    this metadata, else the mean of ILSVRC.

    Raises:
        VggspecError: the spec contradicts what the weights expect.
    """
    wanted = expected(metadata, image)
    if wanted is not None:
        if not is_said(image) and wanted.color == image.color:
            return wanted, "weights"
        found = image if image.mean is not None else replace(image, mean=wanted.mean)
        if not agree(found, wanted):
            raise VggspecError(report(other(image, wanted, metadata.source), path=path))
        return found, "spec" if image.mean is not None else "weights"
    if image.mean is not None:
        return image, "spec"
    measured = metadata.mean
    if measured is not None and len(measured) == image.channels:
        return replace(image, mean=measured), "weights"
    return replace(image, mean=_ilsvrc_mean(image)), "ILSVRC"


def settled(lowered: "Lowered", weights: "WeightsFile") -> "tuple[Lowered, MeanFrom]":
    """The net with its complete input, as ``complete`` returns it.

    Raises:
        VggspecError: as ``complete``.
    """
    image, mean_from = complete(lowered.network.input, weights.metadata, str(weights.path))
    return with_input(lowered, image), mean_from


def with_input(lowered: "Lowered", image: ImageInput) -> "Lowered":
    """The net on images that are normalised in that way."""
    return replace(lowered, network=replace(lowered.network, input=image))


def known_mean(image: ImageInput) -> tuple[float, ...]:
    """The mean of an input that is complete."""
    assert image.mean is not None
    return image.mean


def agree(one: ImageInput, other: ImageInput) -> bool:
    """Whether two inputs have the same numbers, up to the digits that are quoted."""
    means = zip(known_mean(one), known_mean(other), strict=True)
    return (
        one.color == other.color
        and all(abs(a - b) <= SAME_LEVEL for a, b in means)
        and all(abs(a / b - 1) <= SAME_SHARE for a, b in zip(gain(one), gain(other), strict=True))
    )


def gain(image: ImageInput) -> tuple[float, ...]:
    """What each channel is multiplied by."""
    return tuple(image.scale / std for std in image.std or (1.0,) * image.channels)


def other(
    image: ImageInput, wanted: ImageInput, source: str | None, *, is_import: bool = False
) -> OtherNormalisation:
    """The mistake that a spec's input is another than the one its weights expect."""
    is_of_other_color = image.color != wanted.color
    return OtherNormalisation(
        spec=in_words(image, with_color=is_of_other_color),
        weights=in_words(wanted, with_color=is_of_other_color),
        source=source,
        line=line(wanted),
        is_import=is_import,
        can_turn=is_of_other_color,
    )


def in_words(image: ImageInput, *, with_color: bool = False) -> str:
    """``(x - (123.68 116.779 103.939)) × 0.5``; x is a pixel, from 0 to 255."""
    text = formula(image.mean, image.std, image.scale)
    return f"{image.color}, {text}" if with_color else text


def formula(mean: "Sequence[float] | None", std: "Sequence[float] | None", scale: float) -> str:
    """What becomes of a pixel x."""
    text = "x - the mean of the training images" if mean is None else f"x - {_numbers(mean)}"
    if scale != 1:
        text = f"({text}) × {scale:g}"
    if std is not None:
        text = f"({text}) / {_numbers(std)}"
    return text


def line(image: ImageInput) -> str:
    """The ``input`` line of a spec that says it."""
    options = []
    for word, values in (("mean", image.mean), ("std", image.std)):
        if values is not None:
            options.append(f"{word} {' '.join(f'{value:.6g}' for value in values)}")
    if image.scale != 1:
        options.append("scale 1/255" if image.scale == 1 / 255 else f"scale {image.scale:g}")
    size = f"input {image.height}x{image.width} {image.color}"
    return f"{size}({', '.join(options)})" if options else size


def _numbers(values: "Sequence[float]") -> str:
    """One a channel."""
    text = " ".join(f"{value:g}" for value in values)
    return f"({text})" if len(values) > 1 else text


def _ilsvrc_mean(image: ImageInput) -> tuple[float, ...]:
    red, green, blue = ILSVRC_MEAN
    if image.color == "gray":
        # The luma of ITU-R BT.601, by which images are made gray.
        return (0.299 * red + 0.587 * green + 0.114 * blue,)
    return ILSVRC_MEAN if image.color == "RGB" else ILSVRC_MEAN[::-1]
