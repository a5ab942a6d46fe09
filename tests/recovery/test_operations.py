"""Which operations a service knows."""

from __future__ import annotations

import gc

import pytest

from events.bus import Bus
from events.operation import Operation
from recovery.operations import MAX_PARTS, Definition, Registry
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.retry import RetryPolicy
from recovery.settings import Plan

PLAN = Plan(policy=RetryPolicy(), breaker=BreakerPolicy())
OTHER = Plan(policy=RetryPolicy(max_retries=0), breaker=None)
RESUMABLE = Plan(policy=RetryPolicy(), breaker=None, resumable=True, durability="journal")


def registry() -> Registry:
    return Registry(Bus())


def definition() -> Definition:
    return Definition(PLAN, Operation("fetch", Bus()))


@pytest.mark.parametrize(("plan", "explicit"), [(PLAN, True), (RESUMABLE, False)], ids=["chosen", "resumable"])
def test_a_name_with_the_same_plan_is_the_same_operation(plan: Plan, explicit: bool) -> None:
    known = registry()
    first = known.define("fetch", plan, explicit=explicit)
    assert known.define("fetch", plan, explicit=explicit) is first


def test_a_chosen_name_with_another_plan_is_refused() -> None:
    known = registry()
    known.define("fetch", PLAN, explicit=True)
    with pytest.raises(ValueError, match="'fetch' is already defined with other settings"):
        known.define("fetch", OTHER, explicit=True)


def test_a_resumable_operation_is_never_renamed() -> None:
    known = registry()
    kept = known.define("fetch", PLAN, explicit=False)
    with pytest.raises(ValueError, match="'fetch' is already defined"):
        known.define("fetch", RESUMABLE, explicit=False)
    assert known.get("fetch") is kept


def test_a_functions_name_with_another_plan_gets_a_number() -> None:
    known = registry()
    plans = [PLAN, OTHER, Plan(policy=RetryPolicy(max_retries=9), breaker=None)]
    kept = [known.define("fetch", plan, explicit=False) for plan in plans]
    assert [one.operation.name for one in kept] == ["fetch", "fetch#2", "fetch#3"]


def test_two_functions_of_one_name_have_an_operation_each() -> None:
    known = registry()
    kept = [known.define("fetch", PLAN, explicit=False) for _ in range(3)]
    assert [one.operation.name for one in kept] == ["fetch", "fetch#2", "fetch#3"]


def test_a_function_that_is_gone_is_forgotten() -> None:
    known = registry()
    known.define("fetch", PLAN, explicit=False)
    gc.collect()
    assert known.get("fetch") is None


@pytest.mark.parametrize(("plan", "explicit"), [(PLAN, True), (RESUMABLE, False)], ids=["chosen", "resumable"])
def test_what_must_be_found_by_name_is_kept(plan: Plan, explicit: bool) -> None:
    known = registry()
    known.define("fetch", plan, explicit=explicit)
    gc.collect()
    assert known.plan_of("fetch") == plan


def test_an_unknown_operation_has_no_plan_and_no_successes() -> None:
    assert (registry().plan_of("fetch"), registry().part_of("fetch", "")) == (None, None)


def test_the_part_without_a_key_is_the_whole() -> None:
    one = definition()
    assert one.part("") is one.operation


def test_a_key_is_always_the_same_part() -> None:
    one = definition()
    assert one.part("host") is one.part("host")


def test_every_part_counts_its_own_successes() -> None:
    known = registry()
    one = known.define("fetch", PLAN, explicit=True)
    one.part("a").start().succeed()
    assert [known.part_of("fetch", key).successes for key in ("a", "b", "")] == [1, 0, 0]  # type: ignore[union-attr]


def test_the_part_unused_for_longest_is_forgotten_first() -> None:
    one = definition()
    one.part("first").successes = one.part("second").successes = 7
    for number in range(MAX_PARTS - 2):
        one.part(str(number))
    one.part("first")
    one.part("one too many")
    assert (one.part("first").successes, one.part("second").successes) == (7, 0)


def test_a_part_that_somebody_holds_is_found_again_with_its_counter() -> None:
    definition = registry().define("fetch", Plan(policy=RetryPolicy(), breaker=None), explicit=True)
    held = definition.part("held")
    held.successes = 7
    definition.part("not held").successes = 7
    for number in range(MAX_PARTS):
        definition.part(str(number))
    assert definition.part("held") is held
    assert definition.part("not held").successes == 0


def test_a_name_that_is_given_once_more_is_told() -> None:
    told: list[str] = []
    known = Registry(Bus(), told.append)
    plan = Plan(policy=RetryPolicy(), breaker=None)
    first = known.define("closure", plan, explicit=False)
    known.define("closure", plan, explicit=False)
    assert told == []
    del first
    gc.collect()
    known.define("closure", plan, explicit=False)
    assert "closure" in told
