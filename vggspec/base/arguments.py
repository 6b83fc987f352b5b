"""The arguments that public functions share, and their checks.

A type checker sees a wrong word in a call; a program that is not checked, or that reads the word
from a file, would get what another word means.
"""

from typing import Any, Literal, get_args

from vggspec.base.diagnostic import ArgumentError

Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
"""Where nets run."""


def check_choice(name: str, value: object, choices: Any) -> None:
    """Make sure that an argument is None or one of the words of a ``Literal``.

    Raises:
        ArgumentError: it is something else.
    """
    words = get_args(choices)
    if value is not None and not (isinstance(value, str) and value in words):
        raise ArgumentError(f"`{name}` is {value!r}, not one of {', '.join(words)}")


def check_number(
    name: str, value: float | None, *, least: float, most: float | None = None
) -> None:
    """Make sure that an argument is None or within its bounds.

    Raises:
        ArgumentError: it is not.
    """
    if value is None:
        return
    if most is not None and not least <= value <= most:
        raise ArgumentError(f"`{name}` is {least} to {most}, not {value!r}")
    if not value >= least:
        raise ArgumentError(f"`{name}` must be at least {least}, not {value!r}")
