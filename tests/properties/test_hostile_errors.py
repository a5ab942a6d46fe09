"""A law: whatever a function raises, its caller gets that and nothing else, the call ends once, the next call works."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryStore
from events.bus_events import SubscriberFailed
from events.operation_events import OperationSucceeded
from recovery import classify
from recovery.journal.history import TERMINAL
from recovery.service import Recovery
from recovery.testing import VirtualClock
from recovery.testing.hostile import hostile_errors
from tests.recorded_events import events_of, names

DONE = object()

EVERYTHING = (
    "ExceptionGroup",
    "__cause__",
    "__class__",
    "__str__",
    "__getattr__",
    "Agreeing",
    "Raising",
    "Text",
    "headers",
)
"""What the reprs of hostile errors say now and then."""

SETTINGS: list[dict[str, Any]] = [
    {},
    {"retry_on": Exception},
    {"retry_if_error": lambda error: bool(error)},
    {"enable_classification": False},
    {"resumable": True},
    {"durability": "journal", "max_elapsed": 60.0},
    {"breaker": None, "retry_exhausted": True},
    {"fallback": lambda _: DONE},
]


def answers_of(service: Recovery, outcomes: list[Any], runtime: str, chosen: dict[str, Any]) -> Callable[[], Any]:
    """Calls a function that raises each of *outcomes* in turn, then returns "done": its result, or what came out."""

    def plain() -> object:
        if outcomes:
            raise outcomes.pop(0)
        return DONE

    async def task() -> object:
        await anyio.sleep(0.0)
        return plain()

    if runtime == "plain":
        call = service.recoverable("call", **chosen)(plain)

        def answer() -> object:
            try:
                return call()
            except Exception as error:
                return error

        return answer
    acall = service.recoverable("call", attempt_timeout=1e6, **chosen)(task)

    async def main(answers: list[object]) -> None:
        try:
            answers.append(await acall())
        except Exception as error:  # here: asyncio asks what comes out of a loop for its ``__class__``
            answers.append(error)

    def answer_in_a_loop() -> object:
        answers: list[object] = []
        service.bus.clock.run(main, answers, backend=runtime)  # type: ignore[attr-defined]  # a VirtualClock
        return answers.pop()

    return answer_in_a_loop


@given(
    makes=st.lists(hostile_errors(), min_size=1, max_size=3),
    runtime=st.sampled_from(["plain", "plain", "asyncio", "trio"]),
    chosen=st.sampled_from(SETTINGS),
    is_enabled=st.sampled_from([True, True, True, False]),
)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_only_the_callers_own_exception_comes_out_once(
    makes: list[Callable[[], Exception]], runtime: str, chosen: dict[str, Any], *, is_enabled: bool
) -> None:
    errors = [make() for make in makes]
    with warnings.catch_warnings(), Recovery(store=MemoryStore(), clock=VirtualClock()) as service:
        warnings.simplefilter("error")
        events, failed = events_of(service, *TERMINAL), events_of(service, SubscriberFailed)
        outcomes: list[Any] = [*errors]
        answer = answers_of(service, outcomes, runtime, {"max_retries": 1, **chosen})
        service.configure(enabled=is_enabled)
        given_back = answer()
        assert given_back is DONE or id(given_back) in map(id, errors), f"{type(given_back)} is not the function's own"
        outcomes.clear()
        assert answer() is DONE
        for error in errors:
            classify(error)
        ends = Counter(event.call for event in events if type(event) is not OperationSucceeded)  # type: ignore[attr-defined]
        succeeded = {event.call for event in events} - ends.keys()  # type: ignore[attr-defined]
        assert set(ends.values()) <= {1}, names(events)
        assert len(ends) + len(succeeded) <= 2
        assert failed == []
    assert service.journal is not None
    assert service.journal.counts.dropped == 0


@pytest.mark.slow
def test_the_strategy_reaches_what_exceptions_do() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=250, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(hostile_errors())
    def look(make: Callable[[], Exception]) -> None:
        told = repr(make)
        error, other = make(), make()
        assert error is not other
        seen.update(word for word in EVERYTHING if word in told)

    look()
    assert seen.keys() == set(EVERYTHING)
