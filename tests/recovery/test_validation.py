"""Refusals name their field."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from events.evidence import Category
from recovery import validation

HUGE = pytest.param(10**400, id="huge")


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, 1e300])
def test_a_finite_number_comes_back_as_a_float(value: float) -> None:
    number = validation.number("max_delay", value)
    assert (number, type(number)) == (value, float)


@pytest.mark.parametrize("value", [True, False, None, "1", b"1", 1j, Decimal(1), [1.0]])
def test_what_is_no_number_is_a_type_error_that_names_the_field(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^max_delay must be a number, not "):
        validation.number("max_delay", value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, HUGE])
def test_what_is_not_finite_as_a_float_is_a_value_error_that_names_the_field(value: float) -> None:
    with pytest.raises(ValueError, match=r"^max_delay must be finite, not "):
        validation.number("max_delay", value)


def test_a_number_may_be_its_least_but_not_its_bound() -> None:
    assert validation.number("backoff_factor", 1, least=1.0) == 1.0
    with pytest.raises(ValueError, match=r"^backoff_factor must be at least 1, not 0.999"):
        validation.number("backoff_factor", 0.999, least=1.0)
    with pytest.raises(ValueError, match=r"^timeout must be greater than 0, not 0"):
        validation.number("timeout", 0, above=0.0)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, math.nan])
def test_what_is_not_whole_is_a_type_error_that_names_the_field(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^max_retries must be a whole number, not "):
        validation.whole("max_retries", value)


def test_a_whole_number_comes_back_as_it_is_unless_it_is_below_its_least() -> None:
    assert validation.whole("max_retries", 10**30) == 10**30
    with pytest.raises(ValueError, match=r"^failure_threshold must be at least 1, not 0$"):
        validation.whole("failure_threshold", 0, least=1)


@pytest.mark.parametrize("value", ["Full", "", None, 1, ["full"], {}])
def test_what_is_no_choice_is_refused_with_the_choices(value: Any) -> None:
    assert validation.choice("jitter", "full", ("none", "full")) == "full"
    with pytest.raises(ValueError, match=r"^jitter must be one of 'none', 'full', not "):
        validation.choice("jitter", value, ("none", "full"))


def test_a_category_may_be_given_by_its_name() -> None:
    assert validation.category("category", "lost") is Category.LOST


def test_a_single_item_counts_as_a_collection() -> None:
    assert validation.items("statuses", 503, single=int) == (503,)
    assert validation.items("statuses", [503], single=int) == (503,)
    with pytest.raises(TypeError, match=r"^statuses must be a collection, not '503'"):
        validation.items("statuses", "503", single=int)
