"""The flags of ``vggspec compile``, from the fields of its options."""

import types
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import click

from vggspec.base.bounds import LARGEST, Range
from vggspec.bundle.options import CompileOptions, EngineOptions, flag_of

WITH_TRT = {one.name for one in fields(EngineOptions)} | {"to_trt", "verbose"}


class Sectioned(click.Command):
    """A command whose help lists the options of an engine's build in their own section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both sections; the argument is explained in the text above."""
        rows: dict[str, list[tuple[str, str]]] = {"Options": [], "TensorRT": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None and isinstance(param, click.Option):
                rows["TensorRT" if param.name in WITH_TRT else "Options"].append(row)
        for title, records in rows.items():
            with formatter.section(title):
                formatter.write_dl(records)


def all_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of all compile options, then those of an engine's build."""
    log = "Show TensorRT's messages; twice: all of them."
    options = [
        *flags_of(CompileOptions),
        click.option("--trt", "to_trt", is_flag=True, help="Build a TensorRT engine."),
        *flags_of(EngineOptions),
        click.option("-v", "--verbose", count=True, help=log),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def flags_of(kind: type) -> Iterator[Callable[..., Any]]:
    """A ``click.option`` for every field with a flag, as its type and bounds have it."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        flag = flag_of(one)
        if flag is not None:
            more = _kind(hints[one.name], one, is_pair="/" in flag.name)
            yield click.option(flag.name, one.name, help=flag.help, metavar=flag.metavar, **more)


def given(ctx: click.Context, kind: type) -> dict[str, Any]:
    """The values of the flags that were given on the command line."""
    hints = get_type_hints(kind, include_extras=True)
    found = {}
    for one in fields(kind):
        source = ctx.get_parameter_source(one.name)
        if source is not click.core.ParameterSource.COMMANDLINE:
            continue
        value, (hint, _) = ctx.params[one.name], _bare(hints[one.name])
        if isinstance(value, bool) and get_origin(hint) is Literal:
            value = get_args(hint)[0 if value else 1]
        found[one.name] = value
    return found


def _kind(hint: Any, one: "Field[Any]", *, is_pair: bool) -> dict[str, Any]:
    """What ``click.option`` needs to know about a type."""
    hint, bounds = _bare(hint)
    if hint is bool:
        return {"is_flag": True, "default": one.default}
    if get_origin(hint) is Literal:
        if is_pair:
            return {"is_flag": True, "default": None}
        return {"type": click.Choice(get_args(hint)), "default": one.default}
    if get_origin(hint) is tuple:
        return {"multiple": True}
    if hint is int and bounds is not None:
        high = None if bounds.high == LARGEST - 1 else bounds.high
        return {"type": click.IntRange(bounds.low, high)}
    if hint is float and bounds is not None:
        return {"type": click.FloatRange(bounds.low, bounds.high)}
    return {}


def _bare(hint: Any) -> tuple[Any, Range | None]:
    """A type without None and without its bounds, and the bounds."""
    bounds = None
    while True:
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
            bounds = next((mark for mark in marks if isinstance(mark, Range)), bounds)
        elif get_origin(hint) in (Union, types.UnionType):
            (hint,) = (each for each in get_args(hint) if each is not types.NoneType)
        else:
            return hint, bounds
