"""Names of classes: whether two are the same, and how a message shows their difference.

Systems and tools write one letter in several ways: macOS unpacks ``é`` as an ``e`` and an accent.
"""

import json
import unicodedata
from collections.abc import Iterable, Sequence

#: Greek and Cyrillic letters that look like Latin ones.
_TWINS = str.maketrans(
    "АВЕКМНОРСТУХІЈЅавекмнорстухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρ",
    "ABEKMHOPCTYXIJSabekmhopctyxijsABEZHIKMNOPTYXovp",
)


def same(name: str) -> str:
    """The name in one way of writing it (Unicode's normal form C): equal for the same text."""
    return unicodedata.normalize("NFC", name)


def seen_as(name: str) -> str:
    """Equal for names that look the same: ignores kinds of blanks, letters of other alphabets, and
    characters without width.
    """
    plain = unicodedata.normalize("NFKC", name).translate(_TWINS)
    seen = (
        char
        for char in plain
        if unicodedata.category(char) not in ("Cf", "Cc") and not "\ufe00" <= char <= "\ufe0f"
    )
    return " ".join("".join(seen).split())


def escaped(name: str) -> str:
    """The name in quotation marks, with every character visible."""
    return json.dumps(name)


def told_apart(names: Iterable[str], others: Sequence[str], of: str) -> list[str]:
    """Each name for a message; with the one of ``others`` that looks the same, where there is one.

    >>> told_apart(["bee", "ant "], ["ant"], "train")
    ['`bee`', '"ant " (train has "ant")']
    """
    looks: dict[str, str] = {}
    for other in others:
        looks.setdefault(seen_as(other), other)
    found = []
    for name in names:
        like = looks.get(seen_as(name), name)
        is_alike = like != name
        found.append(f"{escaped(name)} ({of} has {escaped(like)})" if is_alike else f"`{name}`")
    return found


def pair(one: str, other: str) -> tuple[str, str]:
    """Two names for a message that says that they differ."""
    if seen_as(one) == seen_as(other):
        return escaped(one), escaped(other)
    return f"`{one}`", f"`{other}`"


def first_unlike(names: Sequence[str], others: Sequence[str]) -> int | None:
    """The first place where two lists have different names; None also where one is shorter."""
    places = enumerate(zip(names, others, strict=False))
    return next((i for i, (one, other) in places if same(one) != same(other)), None)
