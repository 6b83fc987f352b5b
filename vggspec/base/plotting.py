"""Pictures of numbers, drawn by matplotlib in one style, and written whole or not at all."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vggspec.base.diagnostic import ArgumentError
from vggspec.base.files import replacing_file
from vggspec.base.optional import require
from vggspec.base.render import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GRAY, INK = "#2f6db3", "#d9691e", "#2e8b62", "#6b6f76", "#33363b"
STYLE = {
    "figure.dpi": 144,
    "figure.constrained_layout.h_pad": 0.1,  # inches
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": GRAY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.color": "#e4e5e8",
    "legend.frameon": False,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}

MOST_LETTERS = 50  # of a title

#: What a picture can be written as, by the end of its name.
FORMATS = ("png", "pdf", "svg")


def picture_format(out: str | os.PathLike[str]) -> str:
    """One of ``FORMATS``, by the name of a file; PNG where it has no suffix.

    Raises:
        ArgumentError: it ends in something else.
    """
    suffix = Path(out).suffix.lower().removeprefix(".") or FORMATS[0]
    if suffix not in FORMATS:
        message = f"a picture is written as PNG, PDF or SVG: {os.fspath(out)!r} ends in .{suffix}"
        raise ArgumentError(message)
    return suffix


@contextmanager
def figure_file(
    out: str | os.PathLike[str], size: tuple[float, float], purpose: str
) -> "Iterator[Figure]":
    """A figure of ``size``, width and height in inches, that is written when the block ends without
    an error: as PNG, PDF or SVG, by its name.

    Raises:
        ArgumentError: the name ends in something else.
        MissingLibraryError: matplotlib is not installed, which ``purpose`` needs.
        VggspecError: the system refuses.
    """
    kind = picture_format(out)
    with replacing_file(out) as file, figure_to(file, size, purpose, kind) as figure:
        yield figure


@contextmanager
def figure_to(
    file: IO[bytes], size: tuple[float, float], purpose: str, kind: str = "png"
) -> "Iterator[Figure]":
    """The same, written to an open file as ``kind``, one of ``FORMATS``.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    with _without_notices():
        require("matplotlib", purpose)
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # The user's settings of matplotlib neither apply nor change.
        with style.context(["default", STYLE]):
            figure = Figure(size, layout="constrained")
            yield figure
            FigureCanvasAgg(figure)
            figure.savefig(file, format=kind)


def short(text: str, most: int = MOST_LETTERS, *, is_path: bool = False) -> str:
    """A text of at most so many letters, as every name goes into a picture: what cannot be printed
    is escaped. Matplotlib draws no bytes that are not UTF-8, and an SVG with a control character is
    no XML. Of a path the end is kept.
    """
    text = shown(text)
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if is_path else f"{text[: most - 1]}…"


@contextmanager
def _without_notices() -> Iterator[None]:
    """Silence matplotlib's messages about its caches."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
