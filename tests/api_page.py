"""The parts of docs/api.md that are made from the code: signatures, docstrings, members."""

import ast
import dataclasses
import enum
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import vggspec

WIDTH = 100
SECTIONS = ("Args", "Raises", "Returns")


def public_names() -> list[str]:
    """All that ``import vggspec`` offers, but for the version."""
    return [name for name in vggspec.__all__ if not name.startswith("_")]


def generated(name: str) -> str:
    """What docs/api.md says of a public name."""
    thing = getattr(vggspec, name)
    if isinstance(thing, type):
        parts = [prose(thing)]
        if not issubclass(thing, BaseException):
            parts.append(members(thing))
        return "\n\n".join(part for part in parts if part)
    parts = [f"```text\n{signature(name, thing)}\n```", prose(thing)]
    for result in results(thing):
        rows = members(result)
        if rows:
            parts.append(f"`{result.__name__}`: {first_sentence(result)}\n\n{rows}")
    return "\n\n".join(parts)


def signature(name: str, function: Any) -> str:
    """The call, without types: these are in the code and shown by editors."""
    parts = []
    keyword_only = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        text = parameter.name
        if parameter.default is not parameter.empty:
            text += f"={default(parameter.default)}"
        parts.append(text)
    call = f"vggspec.{name}("
    returned = f") -> {type_name(inspect.signature(function).return_annotation)}"
    line = call + ", ".join(parts) + returned
    if len(line) <= WIDTH:
        return line
    inner = textwrap.fill(", ".join(parts) + ",", WIDTH - 4, break_long_words=False)
    return f"{call}\n{textwrap.indent(inner, '    ')}\n{returned}"


def default(value: object) -> str:
    if isinstance(value, vggspec.Watcher):
        return "SILENT"
    if inspect.isfunction(value):
        return "…"
    return value.value if isinstance(value, enum.Enum) else repr(value)


def type_name(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def results(function: Any) -> Iterator[type]:
    """The classes of this project that a function returns."""
    annotation = inspect.signature(function).return_annotation
    if isinstance(annotation, str):
        annotation = getattr(inspect.getmodule(function), annotation, None)
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and each.__module__.startswith("vggspec."):
            yield each


def prose(thing: Any) -> str:
    """The docstring as Markdown."""
    lines = inspect.cleandoc(thing.__doc__ or "").split("\n")
    out: list[str] = []
    section = None
    for line in lines:
        if line.rstrip(":") in SECTIONS and line.endswith(":"):
            section = line.rstrip(":")
            out += [f"**{section}**" if section != "Args" else "**Arguments**", ""]
        elif section and (entry := re.match(r"    (\S.*?): (.*)", line)):
            names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
            out.append(f"- {names}: {entry[2]}")
        elif section and line.startswith("        "):
            out.append(f"  {line.strip()}")
        else:
            out.append(line)
    return marked("\n".join(out).strip())


def marked(text: str) -> str:
    """Code in Markdown's marks, and text that Markdown would take for its own marks spared."""
    return re.sub(r"``(.+?)``", r"`\1`", text)


def first_sentence(thing: Any) -> str:
    text = " ".join(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].split())
    return marked(re.split(r"(?<=\.) (?=[A-Z])", text)[0])


def members(kind: type) -> str:
    """A table of the public attributes and methods of a class."""
    rows: dict[str, tuple[str, str]] = {}
    for base in [one for one in reversed(kind.__mro__) if one.__module__.startswith("vggspec.")]:
        notes = attribute_notes(base) if dataclasses.is_dataclass(base) else {}
        fields = [name for name in notes if not name.startswith("_")]
        rows |= {name: (f"`{name}`", notes[name]) for name in fields}
        for name, value in vars(base).items():
            if (name.startswith("_") and name != "__call__") or name in fields:
                continue
            if isinstance(value, property):
                rows[name] = f"`{name}`", first_sentence(value.fget)
            elif inspect.isfunction(value):
                inner = [p for p in inspect.signature(value).parameters if p != "self"]
                call = kind.__name__.lower() if name == "__call__" else name
                rows[name] = f"`{call}({', '.join(inner)})`", first_sentence(value)
    if not rows:
        return ""
    lines = ["| member | |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in rows.values()]
    return "\n".join(lines)


def attribute_notes(kind: type) -> dict[str, str]:
    """The fields of a class with the strings that follow them, or their types."""
    module = inspect.getmodule(kind)
    assert isinstance(module, ModuleType)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    notes = {}
    for field, after in zip(tree.body, [*tree.body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = getattr(getattr(after, "value", None), "value", None)
            is_note = isinstance(after, ast.Expr) and isinstance(text, str)
            of_type = ast.unparse(field.annotation).strip("'")
            notes[field.target.id] = marked(" ".join(text.split())) if is_note else f"`{of_type}`"
    return notes
