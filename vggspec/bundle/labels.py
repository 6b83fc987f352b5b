"""The labels of nets: the same for nets that are used together, and found by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vggspec.base.catalogue.fusion import OtherClasses, OtherLabels
from vggspec.base.class_names import first_unlike
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import nearest


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


def find_class(labels: Sequence[str], name: str) -> int:
    """The index of the class with that label, with that name among its synonyms, or with that
    index; upper and lower case are the same.

    >>> find_class(["ant", "bee, honey bee"], "Honey Bee"), find_class(["ant", "bee"], "1")
    (1, 1)

    Raises:
        LookupError: there is no such class; the message says which one may be meant.
    """
    known: dict[str, int] = {}
    for index, label in enumerate(labels):
        for synonym in (label, *label.split(",")):
            known.setdefault(synonym.strip().casefold(), index)
    found = known.get(name.strip().casefold())
    if found is not None:
        return found
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    like = nearest(name, tuple(known))
    more = f" Did you mean `{labels[known[like]]}`?" if like else ""
    raise LookupError(f"the net has no class `{name}`.{more}")
