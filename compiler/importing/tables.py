"""The tables of tensors in a checkpoint, and which of them is the model.

A training script saves more than a model: a moving average of it, optimisers, a teacher. A table
is named by the way to it: ``model_ema``, ``ema.module``.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from vggspec.base.catalogue import checkpoint_files
from vggspec.base.fields import short
from vggspec.base.wording import count
from vggspec.compiler.importing.pickles import Made
from vggspec.compiler.importing.stored import RefusedError, Stored

Table = dict[str, Stored]

#: Names of tables that hold a model's trained weights.
_WEIGHTS = frozenset({"state_dict", "model_state_dict", "model", "module", "model_state"})

_AVERAGE = re.compile(r"(?:^|[._])(?:ema|swa|avg|averaged|shadow)(?:$|[._])")

#: Names of a net that is there several times.
_COPY = re.compile(
    r"(?:^|_)(?:ema|swa|avg|averaged|shadow|teacher|student|target|online|momentum|q|k)(?:$|_)"
)

#: Names of a layer's tensors, and of a net's halves, by which tables within tables are one.
_PARTS = frozenset({
    "weight", "bias", "kernel", "gamma", "beta", "scale", "mean", "var", "running_mean",
    "running_var", "moving_mean", "moving_variance", "num_batches_tracked", "w", "b", "W",
})  # fmt: skip
_HALVES = frozenset({"features", "avgpool", "pre_logits", "classifier", "head", "backbone"})
_MAX_DEPTH = 8


def find(value: object) -> dict[str, Table]:
    """All tables of tensors by name; the outermost one's is empty."""
    found: dict[str, Table] = {}
    seen: set[int] = set()
    todo: list[tuple[tuple[str, ...], object]] = [((), value)]
    while todo:
        path, inner = todo.pop(0)
        inner = inner.table if isinstance(inner, Made) else inner
        if not isinstance(inner, dict) or id(inner) in seen or "param_groups" in inner:
            continue
        seen.add(id(inner))
        nested = _flattened(inner, "", set(), len(path))
        table = nested or {text(key): each for key, each in inner.items() if _is(each)}
        if any(stored.is_float for stored in table.values()):
            name = ".".join(path)
            found |= _copies(name, table) or {name: table}
        if nested is None and len(path) < _MAX_DEPTH:
            todo += [((*path, text(key)), each) for key, each in inner.items()]
    # Beside a state dict there may be a loss, or the mean of the images.
    weights = {name: table for name, table in found.items() if _has_weights(table)}
    return weights or found


def choose(value: object, key: str | None) -> tuple[str, Table, tuple[str, ...]]:
    """The table to take, its name, and the names of others that ``key`` could say.

    Raises:
        RefusedError: no table was found, or several equally likely ones.
    """
    tables = find(value)
    if not tables:
        raise RefusedError(checkpoint_files.NoTensors(holds=_described(value), way=_way(value)))
    name, table = _choice(tables) if key is None else _named(tables, key)
    return name, table, tuple(other for other in tables if other not in ("", name))


def way_in(value: object) -> str:
    """The Python expression that selects the tensors in a checkpoint."""
    if _is_module(value):
        return ".state_dict()"
    tables = [name for name in find(value) if name]
    best = [name for name in tables if _is_weights(name)] or tables
    if best:
        return "".join(f"[{short(part)!r}]" for part in best[0].split("."))
    inner = value.items() if isinstance(value, dict) else ()
    modules = [name for name, each in inner if _is_module(each)]
    return f"[{short(text(modules[0]))!r}].state_dict()" if modules else ""


def is_average(name: str) -> bool:
    """Whether a table contains a moving average of weights."""
    return _AVERAGE.search(name) is not None


def text(name: object) -> str:
    """A table's key as a name."""
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)


def _choice(tables: Mapping[str, Table]) -> tuple[str, Table]:
    plain = [name for name in tables if not is_average(name)] or list(tables)
    weights = [name for name in plain if name and _is_weights(name)]
    for names in (weights, [name for name in plain if not name], plain):
        if len(names) == 1:
            return names[0], tables[names[0]]
        if names:
            break
    raise RefusedError(checkpoint_files.WhichTable(tables=_shown(tables)))


def _named(tables: Mapping[str, Table], key: str) -> tuple[str, Table]:
    if key in tables and key:
        return key, tables[key]
    inside = [name for name in tables if f".{name}.".find(f".{key}.") >= 0]
    if len(inside) == 1:
        return inside[0], tables[inside[0]]
    for table in tables.values() if not inside else ():
        part = {name: each for name, each in table.items() if name.startswith(f"{key}.")}
        if any(stored.is_float for stored in part.values()):
            return key, part
    raise RefusedError(checkpoint_files.WhichTable(tables=_shown(inside or tables), key=short(key)))


def _shown(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(shlex.quote(short(name)) for name in names if name)


def _flattened(value: dict[Any, Any], name: str, seen: set[int], depth: int) -> Table | None:
    """Tables within tables, a layer each or a half of the net each, as one; None of others."""
    if id(value) in seen or depth > _MAX_DEPTH or not value:
        return None
    seen.add(id(value))
    if any(_is(each) for each in value.values()):
        parts = {text(key).rpartition(".")[2] if name in _HALVES else key for key in value}
        is_part = name and all(_is(each) for each in value.values()) and parts <= _PARTS
        return {text(key): each for key, each in value.items()} if is_part else None
    found: Table = {}
    for key, each in value.items():
        inner = None
        if isinstance(each, dict) and key not in _WEIGHTS and not _COPY.search(text(key)):
            inner = _flattened(each, text(key), seen, depth + 1)
        if inner is None:
            return None
        found |= {f"{text(key)}.{part}": stored for part, stored in inner.items()}
    return found


def _copies(path: str, table: Table) -> dict[str, Table]:
    """The copies of a net within one table, a teacher and a student; none where it is one net."""
    prefix = ""
    groups: dict[str, Table] = {}
    while len(groups) < 2:
        groups = {}
        for name, stored in table.items():
            first, dot, _ = name.removeprefix(prefix).partition(".")
            if dot and name.startswith(prefix):
                groups.setdefault(first, {})[name] = stored
        if len(groups) != 1:
            break
        prefix += f"{next(iter(groups))}."
    shapes = {
        first: frozenset(
            (name.removeprefix(f"{prefix}{first}."), each.shape) for name, each in group.items()
        )
        for first, group in groups.items()
    }
    times = Counter(shapes.values())
    alike = {
        first: groups[first]
        for first, these in shapes.items()
        if times[these] > 1 and _has_weights(groups[first])
        if any("." in name for name, _ in these)  # a net; else it is a layer
    }
    if not any(_COPY.search(first) for first in alike):
        return {}
    return {f"{path}.{prefix}{first}".lstrip("."): group for first, group in alike.items()}


def _has_weights(table: Table) -> bool:
    return any(len(stored.shape) > 1 or stored.oddity for stored in table.values())


def _is_weights(name: str) -> bool:
    return _WEIGHTS.issuperset(name.split("."))


def _is(value: object) -> bool:
    return isinstance(value, Stored)


def _is_module(value: object) -> bool:
    return isinstance(value, Made) and isinstance(value.state, dict) and "_modules" in value.state


def _described(value: object) -> str:
    """The content of a checkpoint without a table, in words."""
    if isinstance(value, Stored):
        return "one tensor, without a name"
    if isinstance(value, list | tuple):
        kind = "tensor" if value and all(_is(each) for each in value) else "thing"
        return f"a list of {count(len(value), kind)}, without names" if value else "an empty list"
    if not isinstance(value, dict):
        return f"one value, a {type(value).__name__}"
    if not value:
        return "nothing"
    names = ", ".join(f"`{short(text(name))}`" for name in list(value)[:4])
    more = f" and {len(value) - 4} more" if len(value) > 4 else ""
    return f"{names}{more}"


def _way(value: object) -> str | None:
    if isinstance(value, list | tuple | Stored):
        return "save a table by the names of the layers: torch.save(model.state_dict(), 'w.pth')"
    return None
