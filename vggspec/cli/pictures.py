"""What ``predict`` and ``localise`` share: the class that is named, the pictures that are drawn,
errors about single images.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from vggspec.base.diagnostic import VggspecError
from vggspec.base.wording import count
from vggspec.cli.targets import check_spared


def check_targets(pattern: str, images: Sequence[str], *, kind: str, option: str) -> None:
    """Check that each image gets a picture of its own, and that no picture replaces an image.

    Raises:
        click.UsageError: ``pattern``, the value of ``option``, is not the name of a PNG file, is
            the same name for two images, or names one of the images.
    """
    if not pattern.lower().endswith(".png"):
        raise click.UsageError(f"A {kind} is a PNG file; give a name that ends in .png.")
    if len(images) > 1 and "{name}" not in pattern:
        raise click.UsageError(
            f"{count(len(images), 'image')} need {len(images)} {kind}s; write `{{name}}` in the"
            " file's name."
        )
    targets = [target_of(pattern, name) for name in images]
    seen: set[str] = set()
    for target in targets:
        if target in seen:
            raise click.UsageError(f"Two images would write the same {kind}, {target}.")
        seen.add(target)
    check_spared(targets, images, option=option)


def target_of(pattern: str, name: str) -> str:
    """The file for the picture of an image: ``pattern`` with the image's name for ``{name}``."""
    return pattern.replace("{name}", Path(name).stem)


def class_index(labels: tuple[str, ...], name: str) -> int:
    """The class that ``--class`` names.

    Raises:
        click.BadParameter: there is no such class.
    """
    from vggspec.bundle.labels import find_class

    try:
        return find_class(labels, name)
    except LookupError as error:
        raise click.BadParameter(str(error.args[0]), param_hint="--class") from error


def show_error(error: VggspecError) -> None:
    """Print an error about one image to standard error; the command continues."""
    from vggspec.base.render import as_text
    from vggspec.cli.terminal import use_color

    color = use_color(sys.stderr)
    click.echo(as_text(error.reports, color=color), err=True, color=color)
