"""Reads pickles of tensors without running code that they name.

A pickle is a program for a machine of a stack and a memo. This machine has its operations for plain
values and containers; where a pickle names a class or function, it calls our own replacement, or
only records the name.

``torch.load(weights_only=True)`` is built alike, but makes tensors on the way: it gives a storage
the size that the pickle says, whatever the file holds, and does not compare checksums.

Source: the operations as ``pickletools`` of the standard library documents them.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from vggspec.compiler.importing.stored import BadFileError

MAX_OPERATIONS = 2_000_000
"""A state dict takes some ten for a tensor."""


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names."""

    name: str
    """With its module."""


@dataclass(slots=True, eq=False)
class Made:
    """Placeholder for the result of a class or function that is not called."""

    by: object
    state: object = None
    table: dict[object, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pickle:
    """The content of a pickle."""

    value: Any
    names: tuple[str, ...]
    """The names of unknown classes and functions."""


def read_pickle(
    file: IO[bytes], known: Mapping[str, object], persistent: Callable[[object], object]
) -> Pickle:
    """Read one pickle, and nothing after it.

    ``known`` gives values for names: functions are called when the pickle calls them.

    Raises:
        BadFileError: it is not a pickle, or is truncated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts
            return _Machine(known, persistent).run(file)
    except (
        ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise BadFileError("its pickle is cut off or damaged") from error


class _Machine:
    def __init__(self, known: Mapping[str, object], persistent: Callable[[object], object]) -> None:
        self._known = known
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._unknown: dict[str, None] = {}

    def run(self, file: IO[bytes]) -> Pickle:
        for number, (operation, argument, _) in enumerate(pickletools.genops(file)):
            if number > MAX_OPERATIONS:
                raise BadFileError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
            name = operation.name
            if name == "STOP":
                return Pickle(self._stack.pop(), tuple(self._unknown))
            if name in _VALUES:
                value = argument if _VALUES[name] is _ARGUMENT else _VALUES[name]
                self._stack.append(value() if isinstance(value, type) else value)
            else:
                step = getattr(self, f"_{name.lower()}", None)
                if step is None:
                    raise BadFileError(f"its pickle has the operation {name}")
                step(argument)
        raise EOFError

    def _mark(self, _: None) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        items, self._stack = self._stack, self._below.pop()
        return items

    def _proto(self, _: int) -> None:
        pass

    _frame = _proto

    def _pop(self, _: None) -> None:
        self._stack.pop()

    def _pop_mark(self, _: None) -> None:
        self._marked()

    def _dup(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _binput(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    _put = _long_binput = _binput

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _get = _long_binget = _binget

    def _tuple(self, _: None) -> None:
        items = self._marked()
        self._stack.append(tuple(items))

    def _list(self, _: None) -> None:
        items = self._marked()
        self._stack.append(items)

    _frozenset = _list

    def _dict(self, _: None) -> None:
        items = self._marked()
        self._stack.append({})
        self._set(items)

    def _last(self, number: int) -> None:
        items = self._stack[-number:]
        del self._stack[-number:]
        if len(items) < number:
            raise IndexError
        self._stack.append(tuple(items))

    def _tuple1(self, _: None) -> None:
        self._last(1)

    def _tuple2(self, _: None) -> None:
        self._last(2)

    def _tuple3(self, _: None) -> None:
        self._last(3)

    def _append(self, _: None) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._marked())

    _additems = _appends

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _setitems(self, _: None) -> None:
        self._set(self._marked())

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        table = target.table if isinstance(target, Made) else target
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Of a tuple of tuples of … the hash takes as long as one likes.
            plain = isinstance(key, str | bytes | int | float | None)
            table[key if plain else Made(key)] = value

    def _global(self, argument: str) -> None:
        self._name(*argument.split(" ", 1))

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        full = f"{_PYTHON_2.get(module, module)}.{name}"
        if full not in self._known:
            self._unknown.setdefault(full)
        self._stack.append(self._known.get(full, Global(full)))

    def _reduce(self, _: None) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        self._call(called, arguments)

    _newobj = _reduce

    def _newobj_ex(self, _: None) -> None:
        self._stack.pop()
        self._reduce(None)

    def _inst(self, argument: str) -> None:
        items = self._marked()
        self._global(argument)
        self._call(self._stack.pop(), tuple(items))

    def _obj(self, _: None) -> None:
        called, *items = self._marked()
        self._call(called, tuple(items))

    def _call(self, called: Any, arguments: tuple[Any, ...]) -> None:
        is_ours = callable(called) and not isinstance(called, Made | Global)
        self._stack.append(called(*arguments) if is_ours else Made(called))

    def _build(self, _: None) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Made):
            self._stack[-1].state = state

    def _binpersid(self, _: None) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


_ARGUMENT = object()

#: Operations that put a value on the stack: the argument, or always the same; containers are new.
_VALUES: dict[str, object] = {
    **dict.fromkeys(
        (
            "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
            "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
            "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
        ),
        _ARGUMENT,
    ),
    "NONE": None, "NEWTRUE": True, "NEWFALSE": False,
    "EMPTY_TUPLE": (), "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list,
}  # fmt: skip
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
