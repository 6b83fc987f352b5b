"""Quantities in words: counts and bytes with prefixes, durations, speeds."""

from collections.abc import Sequence


def scaled(number: int, unit: str = "") -> str:
    """Three digits and a decimal prefix: ``15.5 G``."""
    return _prefixed(number, 1000, ("", "k", "M", "G", "T", "P", "E"), unit)


def memory(number_bytes: int) -> str:
    """Three digits and a binary prefix: ``527 MiB``."""
    return _prefixed(number_bytes, 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), "B")


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2 h 05``, ``12 d 3 h``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02}"
    return f"{hours // 24} d {hours % 24} h"


def speed(rate: float, nouns: str) -> str:
    """About three digits: ``135 images/s``, ``0.825 images/s``."""
    digits = 0 if rate >= 100 else 1 if rate >= 1 else 3
    return f"{rate:.{digits}f} {nouns}/s"


def _prefixed(number: int, base: int, prefixes: Sequence[str], unit: str) -> str:
    power = 0
    while number >= 999.5 * base**power and power + 1 < len(prefixes):
        power += 1
    value = number / base**power
    digits = 0 if power == 0 or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {prefixes[power]}{unit}".rstrip()
