"""Nets that are used together name the same classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vggspec.base.catalogue.fusion import OtherClasses, OtherLabels
from vggspec.base.class_names import first_unlike
from vggspec.base.diagnostic import Diagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The classes of a net."""

    net: str
    number: int
    labels: tuple[str, ...] | None
    """Their names, where the net comes with any."""


def check_same(nets: Sequence[Classes], refuse: Callable[[int, Diagnostic], Exception]) -> Classes:
    """The classes of all nets: those of the first net that has labels, else of the first.

    ``refuse(i, what)`` makes the error for the net at place ``i``, which is raised.
    """
    first = next((each for each in nets if each.labels), nets[0])
    for at, each in enumerate(nets):
        if each.number != first.number:
            raise refuse(at, OtherClasses(other=first.net, classes=(first.number, each.number)))
        index = first_unlike(first.labels or (), each.labels or ())
        if index is not None and first.labels and each.labels:
            labels = first.labels[index], each.labels[index]
            raise refuse(at, OtherLabels(other=first.net, index=index, labels=labels))
    return first
