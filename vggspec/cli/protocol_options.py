"""Options that several commands share: the scales and sizes of a test protocol."""

import re

import click

from vggspec.base.recipe import MAX_SCALE, MAX_SCALES


def read_scales(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """``256,384`` as numbers."""
    if value is None:
        return None

    words = value.split(",")
    numbers = [int(word) for word in words if re.fullmatch(r"\s*[0-9]{1,9}\s*", word)]
    if len(numbers) < len(words) or not all(1 <= number <= MAX_SCALE for number in numbers):
        raise click.BadParameter(f"{value!r} is not sizes in pixels such as 256,384,512.")
    if len(numbers) > MAX_SCALES:
        raise click.BadParameter(f"{len(numbers)} sizes are more than {MAX_SCALES}.")
    return tuple(numbers)


scales_option = click.option(
    "--scales",
    callback=read_scales,
    metavar="Q,...",
    help="Smallest sides to rescale each image to, in pixels; posteriors are averaged over them.  "
    "[default: the spec's `test:` section]",
)

resize_option = click.option(
    "--resize",
    type=click.Choice(["rounded", "torchvision"], case_sensitive=False),
    help="How to round the longer side and the start of the central crop: to the nearest pixel, "
    "or as torchvision's Resize and CenterCrop do.  [default: the spec's `test:` section]",
)
