"""Words of messages: plurals, lists, similar words, wrapped lines, messages of other programs."""

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

#: Control sequences of terminals: they begin with ESC, or with its one-character forms.
_ESCAPE = re.compile(
    r"(?:\x1b[\]P_^X]|[\x9d\x90])[^\x07\x1b\x9c]*(?:\x07|\x9c|\x1b\\)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]?"
)
_SENTENCE = re.compile(r"(?<=[.!?])(?= [A-Z])")


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str | None:
    """The known word that ``word`` probably misspells, or None.

    A slip of the keyboard is one letter in a short word and no more than three in a long one, and
    the first letter stays, or moves by one: `clip` is not a misspelling of `flip`.
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
            found, limit, begin = one, distance, shared  # if equally near, the longest prefix
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


def all_of(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def count(number: int, noun: str) -> str:
    """``1 layer``, ``2 layers``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def reason(error: OSError | ValueError) -> str:
    """The message of the system, in lower case and without the path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]


def foreign(text: str, limit: int = 500) -> str:
    """The message of a library as part of ours: one printable line, its first letter as
    within a sentence, no full stop. Cut after a sentence that ends near ``limit``, else after a
    word.
    """
    text = _ESCAPE.sub("", text[: 100 * limit])
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(text) > limit:
        ends = [end.end() for end in _SENTENCE.finditer(text, limit // 2, limit)]
        words = text[: limit + 1].rpartition(" ")[0] or text[:limit]
        text = (text[: ends[-1]] if ends else words) + " …"
    text = text.rstrip(" .")
    is_word = text[:1].isupper() and text[1:2].islower()
    return text[:1].lower() + text[1:] if is_word else text


def columns(text: str) -> int:
    """How many columns of a terminal ``text`` takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def wrapped(text: str, width: int | None) -> list[str]:
    """``text`` in lines of at most ``width`` columns, if given. Longer words stay whole."""
    found: list[str] = []
    for line in text.split("\n"):
        if width is None or columns(line) <= width:
            found.append(line)
            continue
        found += textwrap.wrap(
            line,
            max(width, 8),
            subsequent_indent=line[: len(line) - len(line.lstrip())],
            break_long_words=False,
            break_on_hyphens=False,
        )
    return found


def reflowed(text: str, width: int | None) -> list[str]:
    """``text`` in lines of at most ``width`` columns; indented lines are kept as they are.

    The lines of a paragraph are joined first, except where one begins with a list's ``-``.
    """
    paragraphs: list[str] = []
    is_open = False
    for line in text.split("\n"):
        if is_open and line and not line.startswith((" ", "- ")):
            paragraphs[-1] += f" {line}"
        else:
            paragraphs.append(line)
        is_open = bool(line) and not line.startswith(" ")
    return [
        part
        for one in paragraphs
        for part in ([one] if one.startswith(" ") else wrapped(one, width))
    ]
