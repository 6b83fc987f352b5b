"""Large numbers with three digits and a prefix."""

from collections.abc import Sequence


def scaled(number: int, unit: str = "") -> str:
    """A number with a decimal prefix: ``15.5 G``."""
    return _prefixed(number, 1000, ("", "k", "M", "G", "T", "P", "E"), unit)


def memory(number_bytes: int) -> str:
    """A number of bytes with a binary prefix: ``527 MiB``."""
    return _prefixed(number_bytes, 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), "B")


def _prefixed(number: int, base: int, prefixes: Sequence[str], unit: str) -> str:
    power = 0
    while number >= 999.5 * base**power and power + 1 < len(prefixes):
        power += 1
    value = number / base**power
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[power]}{unit}".rstrip()
