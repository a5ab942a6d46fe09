"""The bucket of a retry budget: tokens, refills and refunds."""

from __future__ import annotations

from typing import Any

import pytest

from recovery.policies.budget import Bucket, RetryBudget, refill, refund, reserve


def test_the_bucket_follows_the_table() -> None:
    budget = RetryBudget(reserve=3.0, ratio=0.5, per_second=0.25)
    assert reserve(Bucket(3.0, 10.0, 100)) == Bucket(2.0, 10.0, 100)
    assert reserve(Bucket(0.999, 0.0, 0)) is None
    assert refill(budget, Bucket(0.0, 10.0, 100), 12.0, 103) == Bucket(2.0, 12.0, 103)
    assert refill(budget, Bucket(2.0, 10.0, 100), 1e9, 100) == Bucket(3.0, 1e9, 100)
    assert refill(budget, Bucket(1.0, 10.0, 100), 5.0, 90) == Bucket(1.0, 10.0, 90)  # nothing runs backwards
    assert refund(budget, Bucket(2.5, 0.0, 0)) == Bucket(3.0, 0.0, 0)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("reserve", 0.5, ValueError),
        ("reserve", True, TypeError),
        ("reserve", float("inf"), ValueError),
        ("reserve", 1e10, ValueError),
        ("ratio", -0.1, ValueError),
        ("ratio", "10 %", TypeError),
        ("per_second", float("nan"), ValueError),
    ],
)
def test_a_budget_out_of_range_is_refused_by_the_name_of_its_field(
    field: str, value: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{field} must be"):
        RetryBudget(**{field: value})
