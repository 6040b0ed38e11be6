"""A calculator that a model may use: arithmetic and nothing else, exact, and bounded in size and time.

The expression is parsed, never run. It is worked out in fractions, so that 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

from studio.errors import InputError

__all__ = ["calculate"]

_LONGEST = 200  # characters
_LARGEST = 512  # bits of a numerator or denominator: about 150 digits
_DECIMALS = 10  # of a result that does not come out even

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "$": "", "€": "", "£": ""})


def calculate(expression: str) -> str:
    """The result as a plain number. Raises InputError, with a sentence the model can learn from, where there is none."""
    if len(expression) > _LONGEST:
        raise InputError(f"The expression has {len(expression)} characters; at most {_LONGEST} are read. Split it.")
    spelled = re.sub(r"(?<=\d),(?=\d{3}(?!\d))|(?<![\w.])0+(?=\d)", "", expression.translate(_SPELLINGS))
    try:
        tree = ast.parse(spelled.strip().removesuffix("=").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"'{expression}' is not arithmetic. Write it like (3 + 4) * 2.") from error
    return _written(_value(tree.body))


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=bool() | complex()):
            pass
        case ast.Constant(value=int(value)):
            return _bounded(Fraction(value))
        case ast.Constant(value=float(value)):
            return _bounded(_as_written(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            return _combined(type(op), _value(left), _value(right))
    raise InputError(
        f"'{ast.unparse(node)}' cannot be calculated. Use numbers, brackets and + - * / // % ** only, no names or words."
    )


def _combined(op: type[ast.operator], left: Fraction, right: Fraction) -> Fraction:
    if op in (ast.Div, ast.FloorDiv, ast.Mod) and right == 0:
        raise InputError("A division by 0 has no result. Check the expression.")
    return _bounded(Fraction(_OPERATIONS[op](left, right)))


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent < 0:
        raise InputError("A division by 0 has no result. Check the expression.")
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        # Checked before it is worked out: 9 ** 9 ** 9 would fill the memory.
        if abs(exponent) * (bits - 1) > _LARGEST:
            raise _too_large()
        return _bounded(Fraction(base**exponent.numerator))
    if base < 0:
        raise InputError("A root of a negative number is not a real number. Check the expression.")
    try:
        return _bounded(_as_written(float(base) ** float(exponent)))
    except OverflowError as error:
        raise _too_large() from error


def _as_written(value: float) -> Fraction:
    """0.1 as one tenth, which no binary fraction is."""
    if math.isinf(value):
        raise _too_large()
    return Fraction(repr(value))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _LARGEST:
        raise _too_large()
    return value


def _too_large() -> InputError:
    return InputError("The numbers grow too large. Use smaller numbers or exponents.")


def _written(value: Fraction) -> str:
    """A whole number in full; anything else as a decimal without an exponent, rounded where it does not come out even."""
    if value.denominator == 1:
        return str(value.numerator)
    digits = len(str(abs(value.numerator) // value.denominator)) + _DECIMALS
    rounded = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    written = f"{rounded:f}"
    return written.rstrip("0").rstrip(".") if "." in written else written
