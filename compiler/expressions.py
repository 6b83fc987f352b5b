"""Numbers in braces: ``{4*c}``, ``{in/2}``."""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

from vggspec.base.catalogue.graphs import BadExpression
from vggspec.base.wording import nearest

BRACES = re.compile(r"\{([^{}]*)\}")

#: The channels that enter a block or a bracket.
IN = "in"

_ENTERS = "in_"  # `in` is a keyword of Python, whose parser reads the expressions
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LARGEST = 10**15
_OTHER_NUMBER = re.compile(r"\b\d\w*[A-Za-z_]")  # of Python, as 0x10 and 1_000


class ExpressionError(Exception):
    """The text in braces is no number."""

    def __init__(self, what: BadExpression) -> None:
        super().__init__(what.title())
        self.what = what


def filled(text: str, values: Mapping[str, int | str | None]) -> str | None:
    """``text`` with a value in place of each pair of braces; None where one is not known.

    ``values`` are the parameters, in lower case, and ``in``; None is a number that a mistake
    elsewhere hides.

    Raises:
        ExpressionError: a pair of braces contains something else, or a fraction.
    """
    found = [_value(inside, values) for inside in BRACES.findall(text)]
    if None in found:
        return None
    numbers = iter(found)
    return BRACES.sub(lambda _: str(next(numbers)), text)


def _value(text: str, values: Mapping[str, int | str | None]) -> int | str | None:
    name = text.strip()
    given = values.get(name.casefold())
    if isinstance(given, str):
        return given
    try:
        if _OTHER_NUMBER.search(name):
            raise ValueError(name)
        tree = ast.parse(re.sub(r"(?i)\bin\b", _ENTERS, name), mode="eval")
        number = _number(tree.body, name, values)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        because = "is neither a number nor a parameter"
        advice = "write whole numbers, + - * /, round brackets, parameters, or `in`"
        raise ExpressionError(BadExpression(text=text, because=because, advice=advice)) from None
    if number is None:
        return None
    if number.denominator != 1:
        because = f"is {number.numerator}/{number.denominator}, no whole number"
        raise ExpressionError(BadExpression(text=text, because=because))
    if not 0 <= number <= _LARGEST:
        raise ExpressionError(BadExpression(text=text, because=f"is {number}, out of range"))
    return int(number)


def _number(node: ast.expr, text: str, values: Mapping[str, int | str | None]) -> Fraction | None:
    match node:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return Fraction(min(number, 10 * _LARGEST))
        case ast.Name(id=name):
            name = IN if name == _ENTERS else name
            folded = name.casefold()
            if folded not in values:
                known = tuple(values)
                because = f"names `{name}`, which is no parameter here"
                suggestion = nearest(name, known)
                advice = f"the parameters are {', '.join(known)}" if known else None
                if name == IN:
                    because = "names `in`: the channels that enter a bracket or block"
                    advice = f"write it in one, `[conv1-{{{text}}}]`, or the number itself"
                raise ExpressionError(
                    BadExpression(text=text, because=because, suggestion=suggestion, advice=advice)
                )
            value = values[folded]
            if isinstance(value, str):
                because = f"calculates with `{name}`, which is the name `{value}`"
                raise ExpressionError(BadExpression(text=text, because=because))
            return None if value is None else Fraction(value)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            first, second = _number(left, text, values), _number(right, text, values)
            if first is None or second is None:
                return None
            if isinstance(sign, ast.Div) and second == 0:
                raise ExpressionError(BadExpression(text=text, because="divides by zero"))
            return _OPERATORS[type(sign)](first, second)
        case _:
            raise ValueError(text)
