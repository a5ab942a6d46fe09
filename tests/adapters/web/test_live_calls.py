"""The statuses of live calls: made again only of what has changed."""

from __future__ import annotations

import math

import msgspec
import pytest

from adapters.journals.pauses import REST, WORK, pauses
from adapters.journals.status import CallStatus
from adapters.web.live_calls import LiveCalls
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.execution.steering import RunningCall
from recovery.waiting.description import WaitingCall

NOW, OFFSET = 1_000_000.0, 999_900.0
"""The Unix time, and by how much it is ahead of the service's clock."""


def failed(
    message: str = "it broke off", attempt: int = 1, category: Category = Category.TRANSIENT
) -> FailureClassified:
    evidence = Evidence(type="builtins.OSError", message=message)
    about = {"at": 90.0 + attempt, "operation": "fetch", "key": "host", "call": "r-1", "attempt": attempt}
    return FailureClassified(**about, category=category, evidence=evidence)


def waits(failure: FailureClassified, due: float = 160.0, until: tuple[str, ...] = ()) -> WaitingCall:
    return WaitingCall(
        call="r-1",
        operation="fetch",
        key="host",
        attempt=failure.attempt + 1,
        left=due - 100.0,
        due=due,
        until=until,
        failure=failure,
    )


def seen(calls: LiveCalls, waiting: WaitingCall | None = None, *running: RunningCall, now: float = NOW) -> CallStatus:
    found = calls.update([] if waiting is None else [waiting], running, now, now - OFFSET)
    return found["r-1"]


def test_a_call_that_has_not_changed_keeps_its_status():
    calls, call = LiveCalls(), waits(failed())
    status = seen(calls, call)
    assert (status.due, status.seen) == (160.0 + OFFSET, 91.0 + OFFSET)
    assert seen(calls, call) is status
    assert seen(calls, msgspec.structs.replace(call), now=NOW + 0.1) is status


@pytest.mark.parametrize(
    "changes", [{"is_paused": True, "due": math.inf}, {"asks_person": True}, {"until": ("disk space",)}, {"due": 170.0}]
)
def test_a_call_that_stands_differently_has_another_status(changes: dict[str, object]):
    calls, call = LiveCalls(), waits(failed())
    status, changed = seen(calls, call), msgspec.structs.replace(call, **changes)
    assert seen(calls, changed) == seen(LiveCalls(), changed) != status


def test_a_call_that_fails_as_before_keeps_its_words_and_counts_on():
    calls = LiveCalls()
    first = seen(calls, waits(failed()))
    seen(calls, None, RunningCall(call="r-1", operation="fetch", key="host", attempt=2))
    again = waits(failed(attempt=2))
    status = seen(calls, again)
    assert status.said is first.said
    assert (status.attempt, status.seen) == (3, 92.0 + OFFSET)
    assert status == seen(LiveCalls(), again)


@pytest.mark.parametrize("failure", [failed("no route", 2), failed(attempt=2, category=Category.UNREACHABLE)])
def test_a_call_that_fails_otherwise_has_other_words(failure: FailureClassified):
    calls = LiveCalls()
    seen(calls, waits(failed()))
    assert seen(calls, waits(failure)) == seen(LiveCalls(), waits(failure))


def test_a_delay_that_has_passed_is_no_longer_announced():
    calls, call = LiveCalls(), waits(failed(), until=("disk space",))
    assert seen(calls, call).due == 160.0 + OFFSET
    assert seen(calls, call, now=NOW + 61.0).due is None


def test_a_thread_that_works_long_pauses_after_each_half_millisecond():
    now, slept = 0.0, []
    pause = pauses(lambda: now, slept.append)
    for _ in range(100):
        pause()
        now += WORK / 4.5
    assert slept == [REST] * 20
