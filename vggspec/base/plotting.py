"""Pictures of numbers, drawn by matplotlib in one style, and written whole or not at all."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from vggspec.base.files import replacing_file
from vggspec.base.optional import require

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


@contextmanager
def figure_file(
    out: str | os.PathLike[str], size: tuple[float, float], purpose: str
) -> "Iterator[Figure]":
    """A figure of ``size``, width and height in inches, that is written as PNG when the block ends
    without an error.

    Raises:
        MissingLibraryError: matplotlib is not installed, which ``purpose`` needs.
        VggspecError: the system refuses.
    """
    with replacing_file(out) as file, figure_to(file, size, purpose) as figure:
        yield figure


@contextmanager
def figure_to(file: IO[bytes], size: tuple[float, float], purpose: str) -> "Iterator[Figure]":
    """The same, written to an open file.

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
            figure.savefig(file, format="png")


def short(text: str, most: int = MOST_LETTERS) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


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
