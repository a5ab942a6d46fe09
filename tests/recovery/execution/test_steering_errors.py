"""Exceptions that steer a framework pass at once: one try, no retry, no circuit, no mark."""

from __future__ import annotations

import bdb
import concurrent.futures
import unittest
from typing import Any

import click
import hypothesis.errors
import pytest
from _pytest import outcomes

from adapters.memory import MemoryStore
from events.evidence import Category
from events.operation_events import FailureClassified, GaveUp, OperationCancelled, Parked, RetryScheduled
from events.verdicts import GiveUp
from recovery import classify, outcome_of
from recovery.policies.rules import Rule
from recovery.policies.steering import STEERING
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names
from tests.recovery.execution.runtime import Runtime

OUTCOMES = (FailureClassified, RetryScheduled, Parked, GaveUp, OperationCancelled)
PASSED = ["FailureClassified", "OperationCancelled"]


def foreign(name: str) -> type[Exception]:
    """A class of a library that is not installed here."""
    module, _, qualified = name.rpartition(".")
    return type(qualified, (Exception,), {"__module__": module})


CeleryRetry = foreign("celery.exceptions.Retry")
REAL = [unittest.SkipTest, bdb.BdbQuit, outcomes.Exit, hypothesis.errors.UnsatisfiedAssumption, click.Abort]
KINDS = [*REAL, StopIteration, StopAsyncIteration, concurrent.futures.CancelledError, CeleryRetry]


class Own(Exception):  # noqa: N818  # as those of frameworks
    """A signal of a framework that the library does not know."""


@pytest.mark.parametrize("name", sorted(STEERING))
def test_each_of_the_table_is_a_cancellation_and_so_is_a_class_below_it(name: str) -> None:
    kind = foreign(name)
    assert classify(kind("later")).category is Category.CANCELLED
    assert classify(type("Below", (kind,), {})()).category is Category.CANCELLED
    assert classify(ExceptionGroup("two", [OSError(5), kind()])).category is Category.CANCELLED


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not issubclass(kind, StopIteration | StopAsyncIteration)])
def test_it_passes_at_once_and_untouched(runtime: Runtime, service: Recovery, kind: type[Exception]) -> None:
    error = kind(0) if kind is outcomes.Exit else kind()
    before = dict(vars(error))
    events, script = events_of(service, *OUTCOMES), Script(error)
    with pytest.raises(kind) as caught:
        runtime.decorate(service, script, "task", circuit_breaker_threshold=1, fallback="instead")()
    assert (caught.value, script.calls, names(events)) == (error, 1, PASSED)
    assert (vars(error), outcome_of(error), service.circuits.states()) == (before, None, {})


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_the_end_of_an_iterator_reaches_a_plain_caller(kind: type[Exception]) -> None:
    service, script = Recovery(), Script(kind())
    events = events_of(service, *OUTCOMES)
    with pytest.raises(kind):
        service.recoverable("next", retry_on=Exception)(script)()
    assert (script.calls, names(events)) == (1, PASSED)


@pytest.mark.parametrize(
    "settings",
    [
        {"retry_on": Exception},
        {"retry_on": (OSError, Exception)},
        {"enable_classification": False},
        {"classifier": lambda _: Category.TRANSIENT},
        {"retry_if_error": lambda _: True},
        {"max_elapsed": 9.0},
        {"breaker": None, "max_retries": None},
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("error", [CeleryRetry(), ExceptionGroup("", [OSError(5), CeleryRetry()])], ids=repr)
def test_no_setting_that_is_about_failures_in_general_retries_it(
    runtime: Runtime, service: Recovery, settings: dict[str, Any], error: Exception
) -> None:
    events, script = events_of(service, *OUTCOMES), Script(error)
    with pytest.raises(type(error)):
        runtime.decorate(service, script, "task", **settings)()
    assert (script.calls, names(events)) == (1, PASSED)


def test_it_is_retried_where_retry_on_names_it(runtime: Runtime, service: Recovery) -> None:
    script = Script(unittest.SkipTest(), unittest.SkipTest())
    assert (
        runtime.decorate(service, script, "task", initial_delay=0.0, retry_on=(OSError, unittest.SkipTest))() == "done"
    )


def test_a_signal_of_ones_own_is_added_by_a_rule(runtime: Runtime) -> None:
    service = Recovery(clock=runtime.clock, classifier=Rule("ours", Category.CANCELLED, types=(Own,)))
    error = Own()
    events, script = events_of(service, *OUTCOMES), Script(error)
    with pytest.raises(Own):
        runtime.decorate(service, script, "task", circuit_breaker_threshold=1)()
    assert (script.calls, names(events), vars(error)) == (1, PASSED, {})


def test_an_error_that_comes_from_one_is_an_error(service: Recovery) -> None:
    error = RuntimeError("generator raised StopIteration")
    error.__cause__ = unittest.SkipTest()
    assert classify(error).category is Category.TRANSIENT


def test_a_probe_that_passes_one_on_frees_its_permit(runtime: Runtime, service: Recovery) -> None:
    script = Script(ConnectionError(), unittest.SkipTest(), "done")
    call = runtime.decorate(service, script, "task", circuit_breaker_threshold=1, max_retries=0)
    with pytest.raises(ConnectionError):
        call()
    runtime.clock.advance(30.0)
    with pytest.raises(unittest.SkipTest):
        call()
    assert call() == "done"


def test_a_resumable_call_that_passes_one_on_is_not_resumed(runtime: Runtime) -> None:
    store, script = MemoryStore(), Script(CeleryRetry())
    for expected in (CeleryRetry, None):
        with Recovery(store=store, clock=runtime.clock) as service:
            call = runtime.decorate(service, script, "task", resumable=True)
            service.resume()
            if expected is not None:
                with pytest.raises(expected):
                    call()
    assert script.calls == 1


def test_by_hand_and_in_a_block_it_ends_the_call() -> None:
    service = Recovery()
    events = events_of(service, *OUTCOMES)
    attempt = service.operation("by hand").start()
    assert attempt.fail(unittest.SkipTest()) == GiveUp("cancelled (unittest.case.SkipTest)")
    attempt.cancel()
    with pytest.raises(unittest.SkipTest):
        for block in service.attempts("block"):
            with block:
                raise unittest.SkipTest
    assert names(events) == PASSED * 2
