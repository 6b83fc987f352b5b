"""Text in columns, for tables that read well on a terminal and through a pipe."""

from collections.abc import Iterable, Sequence


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


def scaled(number: int, unit: str = "") -> str:
    """Three digits and a decimal prefix: ``15.5 G``."""
    return _prefixed(number, 1000, ("", "k", "M", "G", "T", "P", "E"), unit)


def memory(number_bytes: int) -> str:
    """Three digits and a binary prefix: ``527 MiB``."""
    return _prefixed(number_bytes, 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), "B")


def _prefixed(number: int, base: int, prefixes: Sequence[str], unit: str) -> str:
    power = 0
    while number >= 999.5 * base**power and power + 1 < len(prefixes):
        power += 1
    value = number / base**power
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[power]}{unit}".rstrip()
