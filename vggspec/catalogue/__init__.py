"""Every kind of mistake vggspec can report, by theme; each class is its own page.

Codes come in blocks: 0xx the text of a spec, 1xx names and arguments, 2xx shapes, 3xx passes
and backends, 4xx recipes, data and training, 5xx weights and bundles, 6xx engines, annotations and
evaluation, 7xx boxes and features. A code is never reused and never renumbered.
"""

import importlib
from functools import lru_cache

from vggspec.diagnostic import Diagnostic

THEMES = (
    "files", "syntax", "names", "shapes", "backends", "recipes", "data", "ranks", "runs",
    "artefacts", "checkpoints", "importing", "annotations", "engines", "refitting", "running",
    "verifying", "variants", "fusion", "evaluating", "features", "localising",
)  # fmt: skip


def by_code() -> dict[str, type[Diagnostic]]:
    """All kinds of mistake, in the order of their codes."""
    found = {}
    for theme in THEMES:
        module = importlib.import_module(f"vggspec.catalogue.{theme}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Diagnostic) and "code" in vars(value):
                assert value.code not in found, value.code
                found[value.code] = value
    return dict(sorted(found.items()))


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The known word of which ``word`` is probably a misspelling, or None.

    A slip of the keyboard is one letter in a short word and no more than three in a long one, and
    it leaves the first letter, or moves it: `clip` is not meant for `flip`.
    """
    return _nearest(word, tuple(known))


@lru_cache(maxsize=1 << 10)  # a file may make the same mistake in every column
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    folded = word.casefold()
    limit = min(3, len(folded) // 3)
    found, begin = None, -1
    for one in known:
        other = one.casefold()
        if other == folded:
            return one
        if other[:1] not in folded[:2] and folded[:1] not in other[:2]:
            continue
        distance = _slips(folded, other, limit)
        pairs = enumerate(zip(folded, other, strict=False))
        shared = next((at for at, (mine, its) in pairs if mine != its), len(other))
        if distance < limit or (distance == limit and shared > begin):
            found, limit, begin = one, distance, shared  # of several as near, the one it begins as
    return found


def _slips(word: str, other: str, limit: int) -> int:
    """Letters changed, missing, surplus or swapped with the next, counted to ``limit`` + 1."""
    over = limit + 1
    if abs(len(word) - len(other)) > limit:
        return over
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(word, start=1):
        above, row, two_above = row, [i, *([over] * len(other))], before
        for j in range(max(1, i - limit), min(len(other), i + limit) + 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != other[j - 1]))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == other[j - 1]:
                cost = min(cost, two_above[j - 2] + 1)
            row[j] = cost
        if min(row) > limit:
            return over
        before = above
    return min(row[-1], over)


def either(words: list[str] | tuple[str, ...]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"


def count(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
