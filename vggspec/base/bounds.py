"""Bounds of values, declared with their types: ``Annotated[int, Range(1, 64)]``.

``vggspec.base.fields.read`` reads a class from JSON within them, and the command line offers the
same ones.
"""

from dataclasses import dataclass
from typing import Annotated

LARGEST = 1 << 63
"""Upper bound of whole numbers."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number, or each of several, from ``low`` to ``high``."""

    low: int
    high: int = LARGEST - 1


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most this many characters of a text, or entries of a list."""

    number: int


@dataclass(frozen=True, slots=True)
class Format:
    """A text that has a form of its own."""

    name: str


#: A digest in hexadecimal.
Sha256 = Annotated[str, Format("sha256")]

#: The path of a file below the folder that is read.
InnerPath = Annotated[str, Format("path")]
