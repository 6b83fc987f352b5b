"""The 1000 classes of ImageNet (ILSVRC 2012), in the order of published weights.

That order is the one of the sorted WordNet ids, from tench (n01440764) to toilet tissue
(n15075141): the authors', torchvision's, timm's, Keras's and TF-slim's nets have it. The
development kit of ILSVRC numbers the classes otherwise, from kit fox (n02119789) on.

Source: ``_IMAGENET_CATEGORIES`` in ``torchvision/models/_meta.py``, Copyright (c) Soumith Chintala
2016, BSD 3-Clause License; the names alone, each without its synonyms.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

CLASSES = 1000
BACKGROUND = "background"
"""The class before the others in some nets of TensorFlow, which have 1001."""

_ID = re.compile(r"(n\d{8})\b\s*")
_FIRST_OF_DEVKIT = ("n02119789", "kit fox")

#: So many of a list are names of ImageNet's, and so few of these elsewhere, where it is that list.
_MOST, _MISPLACED = 900, 100


@lru_cache
def imagenet_classes() -> tuple[str, ...]:
    """The names, in the usual order."""
    text = resources.files("vggspec.data").joinpath("imagenet_classes.txt").read_text("utf-8")
    return tuple(text.splitlines())


def other_order(labels: Sequence[str]) -> str | None:
    """Which order these names or WordNet ids of ImageNet's classes have, where it is not the usual
    one; None for the usual one and for other classes.

    A line may be a name, its synonyms after commas, a WordNet id, or an id and then names.
    """
    if len(labels) != CLASSES:
        return None
    ids = [found[1] for label in labels if (found := _ID.match(label))]
    if len(ids) == CLASSES:
        is_other = ids != sorted(ids)
    else:
        places = {name.lower(): i for i, name in enumerate(imagenet_classes())}
        names = [_ID.sub("", label).partition(",")[0].strip().lower() for label in labels]
        known = [(i, places[name]) for i, name in enumerate(names) if name in places]
        misplaced = sum(i != place for i, place in known)
        is_other = len(known) >= _MOST and misplaced > _MISPLACED
    if not is_other:
        return None
    is_devkit = any(word in labels[0].lower() for word in _FIRST_OF_DEVKIT)
    return "the order of the ILSVRC development kit" if is_devkit else "another order"
