"""What a launcher of several processes tells each of them, in the environment.

``torchrun`` sets these variables; under ``srun`` and others the command line can.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """This process among those that were started together."""

    rank: int
    size: int
    local_rank: int
    """Among those of this machine."""

    local_size: int


def is_launched() -> bool:
    """Whether a launcher has started this process as one of several ranks, or as the only one."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def launched() -> Launched | None:
    """This process among several that were started together; None if it is the only one.

    Raises:
        ValueError: the variables are no such numbers; the message names one.
    """
    if not is_launched():
        _check_alone("RANK", 0, lacking="WORLD_SIZE")
        _check_alone("WORLD_SIZE", 1, lacking="RANK")
        return None
    size = _number("WORLD_SIZE", 1)
    rank = _number("RANK", 0, size - 1)
    local_size = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else 1
    local_rank = _number("LOCAL_RANK", 0) if "LOCAL_RANK" in os.environ else 0
    if size == 1:
        return None
    if not os.environ.get("MASTER_ADDR"):
        raise ValueError("MASTER_ADDR is not set")
    _number("MASTER_PORT", 0, 65535)
    return Launched(rank=rank, size=size, local_rank=local_rank, local_size=local_size)


def is_other_rank() -> bool:
    """Whether another process than this one, of those started together, prints and writes."""
    return os.environ.get("RANK", "0") != "0" and "WORLD_SIZE" in os.environ


def _check_alone(name: str, most: int, *, lacking: str) -> None:
    """Refuse a process that is one of several by one variable and does not say which by the other:
    each of them would do all of the work.
    """
    text = os.environ.get(name, "")
    if text.isdecimal() and int(text) > most:
        raise ValueError(f"{name} is {text} and {lacking} is not set")


def _number(name: str, least: int, most: int | None = None) -> int:
    text = os.environ.get(name)
    if text is None:
        raise ValueError(f"{name} is not set")
    if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        numbers = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {text!r} and must be {numbers}")
    return int(text)
