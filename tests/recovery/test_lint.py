"""Findings about settings, before any call fails."""

from __future__ import annotations

import math
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.conditions import Condition
from events.evidence import Category
from events.operation import Operation
from recovery import (
    BreakerPolicy,
    Constant,
    Exponential,
    RetryBudget,
    RetryPolicy,
    Rule,
    Strategy,
    presets,
)
from recovery.lint import lint, longest_failure
from recovery.policies.backoff import Jitter
from recovery.policies.hosts import HOST_BREAKER
from recovery.service import Recovery
from recovery.settings import WhenOpen
from recovery.settings_check import Defaults, make_config
from recovery.testing import VirtualClock

NEVER = Condition("the host", lambda: False, every=10.0)


def found(calls: int | None = None, **given: Any) -> dict[str, str]:
    """The findings about an operation with these settings, by their rule."""
    config = make_config(given, defaults=Defaults(), has_store=True)  # type: ignore[arg-type]
    return {one.rule: f"{one.text}: {one.cure}" for one in lint("download", config, calls=calls, key="host:443")}


def test_the_defaults_have_no_findings() -> None:
    assert found() == {}


def test_the_preset_for_launchers_has_no_findings() -> None:
    owner = presets.launcher().operation("fetch").owner
    assert lint("fetch", owner().config) == []


def test_a_launch_of_many_downloads_has_no_findings() -> None:
    policy = RetryPolicy(max_retries=5, backoff=Exponential(0.5))
    assert found(calls=300, policy=policy, breaker=HOST_BREAKER, when_open="wait") == {}


@pytest.mark.parametrize(
    ("given", "rule", "said"),
    [
        (
            {"max_retries": None},
            "no-limit",
            "a call of download may never end: max_retries sets no limit, and neither does max_elapsed: "
            "set max_elapsed",
        ),
        (
            {"per_category": {"unreachable": Strategy(wait_for=(NEVER,))}},
            "no-limit",
            "a call of download may never end: what it waits for when it is unreachable has no wait_timeout: "
            "set max_elapsed",
        ),
        (
            {"breaker": BreakerPolicy(probe=NEVER), "when_open": "wait"},
            "no-limit",
            "a call of download may never end: it waits for the health probe of its circuit for as long as that fails: "
            "set max_elapsed",
        ),
        (
            {"max_retries": 200, "breaker": None},
            "slow-to-fail",
            "a call of download may take 3 h 11 min to fail (200 retries): set max_elapsed, or fewer max_retries",
        ),
        (
            {"max_retries": None, "max_elapsed": 7200.0},
            "slow-to-fail",
            "a call of download may take 2 h to fail (max_elapsed): set a shorter max_elapsed",
        ),
        (
            {"max_elapsed": 5.0, "initial_delay": 10.0},
            "no-retry",
            "max_elapsed of 5 s is over before the first retry, which may come after 10 s: "
            "set a longer max_elapsed, or a shorter first delay",
        ),
        (
            {"max_elapsed": 60.0, "attempt_timeout": 90.0},
            "timeout-too-long",
            "attempt_timeout of 1 min 30 s is as long as the whole call may take (1 min): "
            "set a shorter attempt_timeout, or a longer max_elapsed",
        ),
        (
            {"attempt_timeout": 30.0, "stall_timeout": 60.0},
            "timeout-without-effect",
            "stall_timeout of 1 min has no effect: attempt_timeout ends the attempt after 30 s: "
            "set a shorter stall_timeout",
        ),
        (
            {"attempt_timeout": 90.0},
            "lease-too-short",
            "a probe may take 1 min 30 s (attempt_timeout), and another call probes beside it after 1 min (lease): "
            "set lease to at least 90",
        ),
        (
            {"max_elapsed": 20.0, "when_open": "wait"},
            "break-too-long",
            "a call that finds the circuit open ends without an attempt: the break lasts 30 s, and the call 20 s "
            "(max_elapsed): set a shorter break_duration, or a longer max_elapsed",
        ),
        (
            {"max_elapsed": 60.0, "classifier": Rule("busy", Category.TRANSIENT, exit_codes={75}, retry_after=300.0)},
            "wait-too-long",
            "rule 'busy' asks to wait 5 min, and max_elapsed ends the call after 1 min: it is never retried: "
            "set a longer max_elapsed",
        ),
        (
            {"per_category": {"unreachable": Strategy(wait_for=(NEVER,), wait_timeout=5.0)}},
            "wait-too-short",
            "the host is looked at every 10 s, and a call that is unreachable waits for 5 s: set a longer wait_timeout",
        ),
        (
            {"budget": RetryBudget(reserve=2.0)},
            "budget-too-small",
            "one call may retry 3 times, and the budget has 2 retries for all calls together: "
            "set reserve to at least 3, or fewer max_retries",
        ),
        (
            {"budget": RetryBudget(ratio=0.0, per_second=0.0)},
            "budget-ends",
            "the budget is used up after 10 retries, for good: set ratio or per_second",
        ),
    ],
)
def test_a_finding_says_what_will_happen_and_the_cure(given: dict[str, Any], rule: str, said: str) -> None:
    assert found(**given)[rule] == said


def test_a_finding_about_a_batch_names_its_size_and_its_key() -> None:
    breaker = msgspec.structs.replace(HOST_BREAKER, max_break=3600.0)
    said = found(calls=30, max_retries=10, breaker=breaker, when_open="wait")["slow-to-fail"]
    assert said.startswith(
        "30 downloads of host:443 may take 5 h 3 min to fail (10 retries and the breaks of the circuit)"
    )


@pytest.mark.parametrize(("calls", "is_found"), [(None, False), (1, False), (4, False), (5, True)])
def test_delays_that_are_not_randomized_matter_to_many_calls(calls: int | None, is_found: bool) -> None:
    assert ("no-jitter" in found(calls=calls, jitter="none")) is is_found


def test_a_limit_that_is_not_reached_is_no_finding() -> None:
    assert found(max_retries=None, max_elapsed=600.0) == {}


def time_to_fail(policy: RetryPolicy, breaker: BreakerPolicy) -> float:
    """The virtual seconds until one call gives up that finds the circuit of a host open that stays down."""
    clock = VirtualClock()
    service = Recovery(clock=clock, enable_logging=False)

    @service.recoverable("download", policy=policy, breaker=breaker, when_open="wait")
    def download() -> None:
        raise ConnectionRefusedError

    for _ in range(breaker.failure_threshold):
        Operation("download", service.bus).start().fail(ConnectionRefusedError())
    began = clock()
    with pytest.raises(ConnectionRefusedError):
        download()
    return clock() - began


def test_the_figure_of_one_call_is_that_of_its_breaks() -> None:
    policy = RetryPolicy(max_retries=3)
    assert longest_failure(policy, HOST_BREAKER, waits=True) == 450.0
    assert time_to_fail(policy, HOST_BREAKER) == pytest.approx(450.0, rel=0.01)


@settings(max_examples=25, deadline=None)
@given(
    retries=st.integers(0, 12),
    delay=st.floats(0.0, 200.0),
    jitter=st.sampled_from(("none", "full", "equal")),
    breaks=st.floats(0.5, 100.0),
    growth=st.floats(1.0, 3.0),
    most=st.floats(1.0, 400.0),
)
def test_no_call_takes_longer_to_fail_than_the_figure(
    retries: int, delay: float, jitter: Jitter, breaks: float, growth: float, most: float
) -> None:
    policy = RetryPolicy(max_retries=retries, backoff=Constant(delay), jitter=jitter)
    breaker = msgspec.structs.replace(HOST_BREAKER, break_duration=breaks, break_growth=growth, max_break=most)
    took, figure = time_to_fail(policy, breaker), longest_failure(policy, breaker, waits=True)
    assert took <= figure + 0.01
    if jitter == "none":
        assert took >= figure * 0.9 - 0.01


def time_of_a_batch(calls: int, policy: RetryPolicy, breaker: BreakerPolicy, when_open: WhenOpen) -> float:
    """The virtual seconds until all calls have given up; those that wait find the circuit open, and then time out."""
    clock, ends = VirtualClock(), list[float]()
    service = Recovery(clock=clock, enable_logging=False)

    @service.recoverable("download", policy=policy, breaker=breaker, when_open=when_open)
    async def download() -> None:
        if when_open == "wait":
            await anyio.sleep(math.inf)
        raise ConnectionRefusedError

    async def call() -> None:
        with pytest.raises(OSError):  # a timeout, or a refused connection
            await download()
        ends.append(clock())

    async def main() -> None:
        for _ in range(breaker.failure_threshold if when_open == "wait" else 0):
            Operation("download", service.bus).start().fail(ConnectionRefusedError())
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(call)

    clock.run(main)
    return max(ends)


@pytest.mark.parametrize(
    ("policy", "breaker", "when_open", "figure"),
    [
        (RetryPolicy(max_retries=1, backoff=Constant(3.0), jitter="none"), BreakerPolicy(), "reject", 33.0),
        (RetryPolicy(max_retries=0, attempt_timeout=5.0), HOST_BREAKER, "wait", 40.0),
    ],
    ids=["opened by the batch", "another cause than the circuit's"],
)
def test_no_call_of_a_batch_takes_longer_to_fail_than_the_figure(
    policy: RetryPolicy, breaker: BreakerPolicy, when_open: WhenOpen, figure: float
) -> None:
    assert longest_failure(policy, breaker, waits=when_open == "wait") == figure
    assert time_of_a_batch(20, policy, breaker, when_open) == pytest.approx(figure, rel=0.05)


def test_the_figure_needs_no_time_for_any_number_of_retries() -> None:
    policy = RetryPolicy(max_retries=1_000_000, backoff=Constant(1.0))
    assert longest_failure(policy) == pytest.approx(1e6)
    assert longest_failure(RetryPolicy(max_retries=None)) == math.inf
