"""Text in columns, for tables that read well on a terminal and through a pipe."""

from collections.abc import Iterable, Sequence

from vggspec.base.quantities import memory as memory
from vggspec.base.quantities import scaled as scaled


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Lines with the cells of each column under each other; ``right`` are flushed right."""
    flush = set(right)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i in flush else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
