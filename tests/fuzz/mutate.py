"""Ways to damage bytes, JSON and text."""

import copy
import json
from random import Random
from typing import Any

#: Values that readers trip over: beyond float, NUL, half characters, wrong types, huge sizes.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 65536, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -0.0,
    float("inf"), float("-inf"), float("nan"), "", "\0", "\ud800", "\x1b[31m", "../x",
    "/etc/passwd", "a" * 70000, "x/" * 3000, "é", "e\u0301", [], {}, [[]], [None], [0] * 70000,
    {"": None}, "1",
)  # fmt: skip


def damaged(random: Random, data: bytes) -> bytes:
    """The bytes, cut off, flipped, overwritten, doubled or with others put in."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 5, 20))):
        if not found:
            return bytes(random.randbytes(random.randrange(64)))
        at = random.randrange(len(found))
        kind = random.randrange(7)
        if kind == 0:
            del found[at:]
        elif kind == 1:
            found[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            found[at] = random.choice((0, 255, 127, 128, random.randrange(256)))
        elif kind == 3:
            end = min(len(found), at + random.choice((1, 4, 16, 256)))
            found[at:end] = random.randbytes(end - at)
        elif kind == 4:
            found[at:at] = random.randbytes(random.choice((1, 4, 64)))
        elif kind == 5:
            del found[at : at + random.choice((1, 4, 64, 1024))]
        else:
            found[at:at] = found[at : at + random.choice((4, 64, 1024))]
    return bytes(found)


def twisted(random: Random, value: Any) -> Any:
    """A JSON value with one or several of its parts replaced, removed, doubled or renamed."""
    found = json.loads(json.dumps(value))
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(found))
        if not places:
            return _hostile(random)
        holder, key = random.choice(places)
        kind = random.randrange(8)
        if kind < 5:
            holder[key] = _hostile(random)
        elif kind == 5:
            del holder[key]
        elif kind == 6 and isinstance(holder, list):
            is_small = not isinstance(holder[key], dict | list)
            holder[key:key] = [holder[key]] * random.choice((1, 10, 60000 if is_small else 100))
        elif isinstance(holder, dict):
            holder[random.choice(("", "\0", "x", "\ud800", str(key) + " "))] = holder[key]
        else:
            holder[key] = [holder[key]]
    return found


def _hostile(random: Random) -> Any:
    """One of the hostile values: its own, since it may be changed in its turn."""
    return copy.deepcopy(random.choice(HOSTILE))


def as_json(value: Any) -> bytes:
    """The text of a JSON value, surrogates and ``Infinity`` as Python writes them."""
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys = one.keys() if isinstance(one, dict) else range(len(one))
        for key in keys:
            places.append((one, key))
            if isinstance(one[key], dict | list):
                todo.append(one[key])
        if len(places) > 100_000:
            break
    return places
