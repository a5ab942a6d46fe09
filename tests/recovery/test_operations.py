"""The operations of a service, by name and key."""

from __future__ import annotations

import gc

import pytest

from events.bus import Bus
from events.operation import Operation
from recovery.operations import MAX_REASON, Definition
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.retry import RetryPolicy
from recovery.registry import Registry
from recovery.settings import OperationConfig
from tests.steps import steps_of

CONFIG = OperationConfig(policy=RetryPolicy(), breaker=BreakerPolicy())
OTHER = OperationConfig(policy=RetryPolicy(max_retries=0), breaker=None)
RESUMABLE = OperationConfig(policy=RetryPolicy(), breaker=None, resumable=True, durability="journal")


FEW = 8


def registry() -> Registry:
    return Registry(Bus(), max_keys=FEW)


def definition() -> Definition:
    return Definition(CONFIG, Operation("fetch", Bus()), max_keys=FEW)


@pytest.mark.parametrize(("config", "explicit"), [(CONFIG, True), (RESUMABLE, False)], ids=["chosen", "resumable"])
def test_a_name_with_the_same_config_is_the_same_operation_which_is_kept(
    config: OperationConfig, explicit: bool
) -> None:
    known = registry()
    first = known.define("fetch", config, explicit=explicit)
    assert known.define("fetch", config, explicit=explicit) is first
    del first
    gc.collect()
    assert known.config_of("fetch") == config


@pytest.mark.parametrize(("other", "is_chosen"), [(OTHER, True), (RESUMABLE, False)], ids=["chosen", "resumable"])
def test_an_operation_that_cannot_be_renamed_is_refused(other: OperationConfig, is_chosen: bool) -> None:
    known = registry()
    kept = known.define("fetch", CONFIG, explicit=is_chosen)
    with pytest.raises(ValueError, match="'fetch' is already defined with other settings"):
        known.define("fetch", other, explicit=is_chosen)
    assert known.get("fetch") is kept


@pytest.mark.parametrize("configs", [[CONFIG] * 3, [CONFIG, OTHER, OTHER]], ids=["same", "different"])
def test_every_further_function_of_one_name_gets_a_number(configs: list[OperationConfig]) -> None:
    known = registry()
    kept = [known.define("fetch", config, explicit=False) for config in configs]
    assert [one.operation.name for one in kept] == ["fetch", "fetch#2", "fetch#3"]


def test_a_function_that_is_gone_is_forgotten() -> None:
    known = registry()
    known.define("fetch", CONFIG, explicit=False)
    gc.collect()
    assert (known.get("fetch"), known.config_of("fetch"), known.operation_of("fetch", "")) == (None, None, None)


def test_a_key_is_always_the_same_operation_and_the_empty_one_the_whole() -> None:
    one = definition()
    assert one.keyed("host") is one.keyed("host")
    assert one.keyed("") is one.operation


def test_every_key_counts_its_own_successes() -> None:
    known = registry()
    one = known.define("fetch", CONFIG, explicit=True)
    one.keyed("a").start().succeed()
    assert [known.operation_of("fetch", key).successes for key in ("a", "b", "")] == [1, 0, 0]  # type: ignore[union-attr]


def test_the_least_recently_used_key_is_forgotten_first() -> None:
    one = definition()
    one.keyed("first").successes = one.keyed("second").successes = 7
    for number in range(FEW - 2):
        one.keyed(str(number))
    one.keyed("first")
    one.keyed("one too many")
    assert (one.keyed("first").successes, one.keyed("second").successes) == (7, 0)


def test_a_key_that_is_still_referenced_keeps_its_counter() -> None:
    one = definition()
    held = one.keyed("held")
    held.successes = one.keyed("not held").successes = 7
    for number in range(FEW):
        one.keyed(str(number))
    assert one.keyed("held") is held
    assert one.keyed("not held").successes == 0


def test_a_reason_is_redacted_before_it_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    definition().warn_once("not stored", f"{'x' * (MAX_REASON - 40)} https://user:{'hunter22' * 20}@example.org")
    assert "not stored" in caplog.text
    assert "hunter22" not in caplog.text


def test_a_name_that_is_reused_is_reported() -> None:
    reused: list[str] = []
    known = Registry(Bus(), reused.append)
    first = known.define("closure", CONFIG, explicit=False)
    known.define("closure", CONFIG, explicit=False)
    assert reused == []
    del first
    gc.collect()
    known.define("closure", CONFIG, explicit=False)
    assert "closure" in reused


def test_a_key_that_comes_back_costs_little_more_than_one_that_is_known() -> None:
    fetch, keys = definition(), [f"host {number}" for number in range(3 * FEW)]
    new = steps_of(fetch.keyed, keys[0])
    kept = [fetch.keyed(key) for key in keys]  # as calls under way keep theirs
    assert steps_of(fetch.keyed, keys[0]) < new / 2
    assert fetch.keyed(keys[0]) is kept[0]


def test_an_operation_of_a_forgotten_key_is_found_while_it_is_held() -> None:
    fetch = definition()
    held = fetch.keyed("held")
    Operation("fetch", fetch.operation.bus, key="held")
    stranger = Operation("fetch", fetch.operation.bus, key="other")
    for number in range(2 * FEW):
        fetch.keyed(f"{number}")
    assert fetch.keyed("held") is held
    assert fetch.keyed("other") is not stranger
