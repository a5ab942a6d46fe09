"""Invariants of calls and verdicts, as assertions that name what broke."""

from __future__ import annotations

import math
from collections.abc import Iterable

from events.event import CallEvent, Event
from events.evidence import Category
from events.operation_events import FailureClassified
from events.verdicts import GiveUp, Park, Retry, Verdict
from recovery.journal.history import TERMINAL
from recovery.policies.retry import RetryPolicy

EPSILON = 1e-6


def check_calls_end_once(events: Iterable[Event]) -> None:
    """Each call has one terminal event, and no event after it."""
    over: set[str] = set()
    for event in events:
        if isinstance(event, CallEvent):
            assert event.call not in over, f"{type(event).__name__} of a call that was over"
            if isinstance(event, TERMINAL):
                over.add(event.call)


def check_verdict(verdict: Verdict, alone: Verdict, failure: FailureClassified, policy: RetryPolicy) -> None:
    """*verdict* is at least as strict as *alone*, what *policy* says by itself, and its wait is finite and in time."""
    order = (Retry, Park, GiveUp)
    assert order.index(type(verdict)) >= order.index(type(alone)), f"{verdict} is milder than the policy's {alone}"
    if failure.category is Category.PERMANENT:
        assert isinstance(verdict, GiveUp), f"a permanent failure was answered with {verdict}"
    if isinstance(verdict, GiveUp):
        return
    assert 0.0 <= verdict.after < math.inf, f"a wait of {verdict.after} s"
    assert verdict.after >= getattr(alone, "after", 0.0) - EPSILON, f"{verdict} comes earlier than {alone}"
    assert verdict.after >= (failure.retry_after or 0.0) - EPSILON, f"{verdict} comes earlier than the server asked"
    if policy.max_elapsed is not None:
        ends = failure.elapsed + verdict.after
        assert ends <= policy.max_elapsed + EPSILON, f"a wait that ends {ends} s after the call began"
