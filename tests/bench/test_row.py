from __future__ import annotations

import pytest

from bench.measure import Spread
from bench.row import Row, amount, in_words, least, most, number


def test_numbers_have_three_digits():
    values = (1234567.0, 123.4, 12.34, 1.234, 0.0123, 0.0, -5.5)
    assert [number(value) for value in values] == ["1 234 567", "123", "12.3", "1.23", "0.012", "0.00", "-5.50"]


def test_amounts_and_goals_have_units():
    assert amount(1.2, "x") == "1.20x"
    assert amount(10.0, "µs") == "10.0 µs"
    assert amount(62.0, "") == "62"
    assert in_words(most(10.0), "µs") == "≤ 10.0 µs"
    assert in_words(least(98.0), "%") == "≥ 98.0 %"
    assert in_words(most(0.0, "none"), "") == "none"
    assert in_words(None, "x") == "-"


@pytest.mark.parametrize(("measured", "verdict"), [(None, "not measured"), (Spread(1.0, 1.1, 1.15, 25), "pass")])
def test_a_row_is_judged_by_its_own_goal(measured: Spread | None, verdict: str):
    assert Row(key="a", what="a", unit="x", measured=measured, goal=most(1.2)).verdict == verdict
