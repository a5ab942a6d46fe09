from __future__ import annotations

import pytest

from bench.measure import Spread
from bench.row import Row, amount, in_words, least, most, number


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1234567.0, "1 234 567"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0123, "0.012"),
        (0.0, "0.00"),
        (-5.5, "-5.50"),
    ],
)
def test_numbers_have_three_digits(value: float, words: str):
    assert number(value) == words


def test_amounts_and_goals_have_units():
    assert amount(1.2, "x") == "1.20x"
    assert amount(10.0, "µs") == "10.0 µs"
    assert amount(62.0, "") == "62"
    assert in_words(most(10.0), "µs") == "≤ 10.0 µs"
    assert in_words(least(98.0), "%") == "≥ 98.0 %"
    assert in_words(most(0.0, "none"), "") == "none"
    assert in_words(None, "x") == "-"


def test_a_row_that_could_not_be_measured_does_not_pass():
    row = Row(key="monitoring", what="monitoring", unit="ns", measured=None, goal=most(500.0))
    assert row.verdict == "not measured"


def test_a_row_is_judged_by_its_own_goal():
    assert Row(key="a", what="a", unit="x", measured=Spread(1.0, 1.1, 1.15, 25), goal=most(1.2)).verdict == "pass"
