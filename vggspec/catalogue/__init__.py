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
    """The known word most like ``word``, or none that is like it."""
    return _nearest(word, tuple(known))


@lru_cache(maxsize=1 << 12)  # a file may make the same mistake in every column
def _nearest(word: str, known: tuple[str, ...]) -> str | None:
    import difflib

    folded = {one.casefold(): one for one in known}
    match = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def either(words: list[str] | tuple[str, ...]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} or {words[-1]}"


def count(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
