"""The calculator: exact where it can be, bounded always, and never more than arithmetic."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import InputError
from studio.prompts.techniques import calculate


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * -4", "-20"),
        ("0.1 + 0.2", "0.3"),
        ("10 / 4", "2.5"),
        ("10 / 3", "3.3333333333"),
        ("1 / 3", "0.33333333333"),
        ("7 // 2", "3"),
        ("7 % 4", "3"),
        ("2 ** 10", "1024"),
        ("2^10", "1024"),
        ("2 ** -3", "0.125"),
        ("2 ** 0.5", "1.4142135624"),
        ("1,234 × 2 ÷ 4", "617"),
        ("$1,200.50 − 0.50", "1200"),
        ("12 * 4 =", "48"),
        ("007 + 1", "8"),
        ("1_000 + 1", "1001"),
        ("12345678901234.25 + 0", "12345678901234.25"),
        ("1e3 + 1e-400", "1000"),
        ("1 / 10 ** 20", "0.00000000000000000001"),
        ("(-1) ** (10 ** 100)", "1"),
    ],
)
def test_it_calculates(expression: str, result: str) -> None:
    assert calculate(expression) == result


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        pytest.param("9 ** 9 ** 9", "too large", id="a tower of powers"),
        pytest.param("2 ** 10000000000", "too large", id="a huge exponent"),
        pytest.param("10 ** 100 * 10 ** 100", "too large", id="a huge product"),
        pytest.param("1e400", "too large", id="a huge literal"),
        pytest.param("(10 ** 100) ** 3.5", "too large", id="a huge root"),
        pytest.param("1+" * 150 + "1", "301 characters; at most 200", id="too long"),
        pytest.param("(" * 150, "is not arithmetic", id="open brackets"),
        pytest.param("1 / 0", "division by 0", id="division by zero"),
        pytest.param("1 % (2 - 2)", "division by 0", id="remainder by zero"),
        pytest.param("0 ** -1", "division by 0", id="zero to a negative power"),
        pytest.param("(-8) ** (1 / 3)", "root of a negative", id="no real root"),
        pytest.param("", "is not arithmetic", id="nothing"),
        pytest.param("five plus two", "is not arithmetic", id="words"),
        pytest.param("x + 1", "'x' cannot be calculated", id="a name"),
        pytest.param("True + 1", "'True' cannot be calculated", id="a truth value"),
        pytest.param("1j * 1j", "'1j' cannot be calculated", id="an imaginary number"),
        pytest.param("'a' * 9", "cannot be calculated", id="a text"),
        pytest.param("[1] * 9", "cannot be calculated", id="a list"),
        pytest.param("1 < 2", "cannot be calculated", id="a comparison"),
        pytest.param("1 << 9", "cannot be calculated", id="a shift"),
        pytest.param("__import__('os').system('id')", "cannot be calculated", id="a call"),
        pytest.param("().__class__", "cannot be calculated", id="an attribute"),
        pytest.param("(lambda: 1)()", "cannot be calculated", id="a function"),
        pytest.param("1\x00 + 1", "is not arithmetic", id="a null byte"),
        pytest.param("\ud800", "is not arithmetic", id="half a character"),
    ],
)
def test_what_it_refuses_is_a_sentence(expression: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        calculate(expression)


@given(st.text("0123456789+-*/%().,^$ e", max_size=40))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_any_row_of_signs_gives_a_number_or_a_sentence(expression: str) -> None:
    with suppress(InputError):
        Fraction(calculate(expression))


def _written(parts: tuple[str, str, str]) -> str:
    return f"({parts[0]} {parts[1]} {parts[2]})"


SUMS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(_written),
    max_leaves=8,
)


@given(SUMS)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_whole_numbers_come_out_exactly(expression: str) -> None:
    assert calculate(expression) == str(eval(expression))
