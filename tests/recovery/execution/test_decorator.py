from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import random
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import recovery
from adapters.memory import MemoryStore
from events.circuit_events import CircuitClosed, CircuitOpened
from events.errors import CallRejectedError, Permanent, Retryable
from events.evidence import Category
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)
from events.verdicts import GiveUp, Park, Retry
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.service import Recovery
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of, names

FAST: dict[str, Any] = {"initial_delay": 0.0}


class Colour:
    """One way of calling: a plain function, or a coroutine function under a loop on a virtual clock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = VirtualClock()

    def decorate(self, service: Recovery, script: Script, *args: Any, **settings: Any) -> Any:
        function = script.as_async() if self.name != "plain" else functools.wraps(script.__call__)(lambda: script())
        decorated = service.recoverable(*args, **settings)(function)
        if self.name == "plain":
            return decorated
        return lambda: self.clock.run(decorated, backend=self.name)


@pytest.fixture(params=["plain", "asyncio", "trio"])
def colour(request: pytest.FixtureRequest) -> Colour:
    return Colour(request.param)


@pytest.fixture
def service(colour: Colour) -> Recovery:
    return Recovery(clock=colour.clock, rng=lambda: 0.5)


def test_a_transient_failure_is_retried_until_it_succeeds(colour: Colour, service: Recovery) -> None:
    script = Script(ConnectionError(), TimeoutError())
    assert colour.decorate(service, script)() == "done"
    assert script.calls == 3


def test_a_permanent_failure_is_tried_once(colour: Colour, service: Recovery) -> None:
    script = Script(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        colour.decorate(service, script)()
    assert script.calls == 1


def test_the_caller_gets_its_own_exception_with_a_note_of_what_was_tried(colour: Colour, service: Recovery) -> None:
    last = ConnectionError("last")
    script = Script(ConnectionError("first"), last)
    with pytest.raises(ConnectionError) as caught:
        colour.decorate(service, script, "fetch", max_retries=1)()
    assert caught.value is last
    assert caught.value.__notes__ == ["recovery: fetch gave up after attempt 2: out of retries (1)"]
    assert last.__context__ is None


def test_notes_do_not_pile_up_on_an_object_that_is_raised_again(colour: Colour, service: Recovery) -> None:
    error = ConnectionError()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            colour.decorate(service, Script(error), "fetch", max_retries=0)()
    assert len(error.__notes__) == 1


def test_the_delays_are_those_of_the_policy(colour: Colour, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(3)])
    colour.decorate(service, script, initial_delay=1.0, backoff_factor=3.0, jitter="none")()
    assert colour.clock() == pytest.approx(1 + 3 + 9)


def test_no_wait_follows_the_last_attempt(colour: Colour, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(5)])
    with pytest.raises(ConnectionError):
        colour.decorate(service, script, max_retries=2, initial_delay=10.0, backoff_factor=1.0, jitter="none")()
    assert (script.calls, colour.clock()) == (3, pytest.approx(20.0))


def test_no_wait_passes_the_deadline(colour: Colour, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(9)])
    with pytest.raises(ConnectionError) as caught:
        colour.decorate(service, script, max_retries=None, max_elapsed=25.0, initial_delay=10.0, backoff_factor=1.0,
                        jitter="none")()  # fmt: skip
    assert colour.clock() == pytest.approx(20.0)
    assert "out of time" in caught.value.__notes__[0]


def test_a_recovered_call_says_so(colour: Colour, service: Recovery) -> None:
    heard = events_of(service)
    colour.decorate(service, Script(ConnectionError()))()
    assert names(heard) == ["OperationFailed", "FailureClassified", "RetryScheduled", "OperationRecovered"]


def test_a_healthy_call_says_nothing(colour: Colour, service: Recovery) -> None:
    heard = events_of(service)
    colour.decorate(service, Script())()
    assert heard == []


def test_a_watcher_of_starts_and_successes_hears_them(colour: Colour, service: Recovery) -> None:
    heard = events_of(service, OperationStarted, OperationSucceeded)
    colour.decorate(service, Script(ConnectionError()))()
    assert names(heard) == ["OperationStarted", "OperationStarted", "OperationSucceeded"]


def test_a_plug_in_can_stop_a_retry(colour: Colour, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: GiveUp("enough"))
    script = Script(ConnectionError())
    with pytest.raises(ConnectionError):
        colour.decorate(service, script)()
    assert script.calls == 1


def test_a_plug_in_can_slow_a_retry_down(colour: Colour, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Retry(after=60.0))
    colour.decorate(service, Script(ConnectionError()))()
    assert colour.clock() == pytest.approx(60.0)


def test_a_plug_in_cannot_cause_a_retry_past_the_policy(colour: Colour, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Retry(after=0.0))
    script = Script(*[ConnectionError() for _ in range(9)])
    with pytest.raises(ConnectionError):
        colour.decorate(service, script, max_retries=1)()
    assert script.calls == 2


def test_a_park_instead_of_a_retry_uses_that_retry_up(colour: Colour, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Park(1.0, until=("a cause",)))
    script = Script(*[ConnectionError() for _ in range(99)])
    with pytest.raises(ConnectionError):
        colour.decorate(service, script, max_retries=3)()
    assert script.calls == 4  # as many as the policy allows, whoever parks


def test_nobody_wakes_who_waits_for_a_server_when_a_circuit_closes(colour: Colour, service: Recovery) -> None:
    service.bus.subscribe(FailureClassified, lambda _: Park(50.0))
    service.bus.subscribe(Parked, lambda f: CircuitClosed(at=f.at, operation=f.operation))
    colour.decorate(service, Script(ConnectionError()))()
    assert colour.clock() >= 50.0


def test_retry_on_names_the_only_errors_worth_a_retry(colour: Colour, service: Recovery) -> None:
    script = Script(KeyError(), ConnectionError(), ConnectionError())
    with pytest.raises(ConnectionError):
        colour.decorate(service, script, retry_on=KeyError)()
    assert script.calls == 2


def test_a_classifier_is_asked_before_the_built_in_rules(colour: Colour, service: Recovery) -> None:
    script = Script(ValueError("busy"), ValueError("wrong"))
    judge = lambda evidence: Category.TRANSIENT if evidence.message == "busy" else None  # noqa: E731
    with pytest.raises(ValueError, match="wrong"):
        colour.decorate(service, script, classifier=judge)()
    assert script.calls == 2


def test_without_classification_every_exception_is_transient(colour: Colour, service: Recovery) -> None:
    script = Script(ValueError(), KeyError())
    assert colour.decorate(service, script, enable_classification=False)() == "done"


def test_permanent_and_retryable_mean_what_they_say(colour: Colour, service: Recovery) -> None:
    script = Script(Retryable("busy", after=7.0), Permanent("gone"))
    with pytest.raises(Permanent):
        colour.decorate(service, script, **FAST)()
    assert (script.calls, colour.clock()) == (2, pytest.approx(7.0))


def test_five_calls_in_a_row_that_gave_up_open_the_circuit(colour: Colour, service: Recovery) -> None:
    heard = events_of(service, CircuitOpened, CallRejected)
    call = colour.decorate(service, Script(*[ConnectionError() for _ in range(99)]), "fetch", max_retries=0)
    for _ in range(5):
        with pytest.raises(ConnectionError):
            call()
    with pytest.raises(CallRejectedError) as caught:
        call()
    assert names(heard) == ["CircuitOpened", "CallRejected"]
    assert caught.value.retry_after == pytest.approx(30.0)


def test_a_circuit_lets_a_probe_pass_and_closes_when_it_succeeds(colour: Colour, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(2)])
    call = colour.decorate(service, script, max_retries=0, circuit_breaker_threshold=2, circuit_breaker_timeout=5.0)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            call()
    colour.clock.advance(5.0)
    heard = events_of(service, CircuitClosed)
    assert call() == "done"
    assert names(heard) == ["CircuitClosed"]


def test_a_call_that_may_wait_for_the_circuit_is_not_rejected(colour: Colour, service: Recovery) -> None:
    script = Script(ConnectionError())
    call = colour.decorate(
        service, script, max_retries=0, circuit_breaker_threshold=1, circuit_breaker_timeout=5.0, when_open="wait"
    )
    with pytest.raises(ConnectionError):
        call()
    assert call() == "done"
    assert colour.clock() == pytest.approx(5.0)


def test_the_next_attempt_waits_for_an_open_circuit(colour: Colour, service: Recovery) -> None:
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0, counts="attempts")
    script = Script(ConnectionError())
    assert colour.decorate(service, script, max_retries=1, breaker=breaker, **FAST)() == "done"
    assert colour.clock() == pytest.approx(5.0)


def test_a_host_that_never_comes_back_is_not_probed_for_ever(colour: Colour, service: Recovery) -> None:
    breaker = BreakerPolicy(failure_threshold=2, break_duration=5.0, counts="attempts")
    script = Script(*[ConnectionError() for _ in range(99)])
    with pytest.raises(ConnectionError):
        colour.decorate(service, script, max_retries=4, breaker=breaker, when_open="wait", **FAST)()
    assert script.calls == 5


def test_an_open_circuit_parks_a_call_already_under_way() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    heard = events_of(service, Parked)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0)

    @service.recoverable("fetch", max_retries=1, breaker=breaker, initial_delay=1.0, jitter="none")
    async def fetch(failures: list[bool]) -> str:
        if failures.pop(0):
            raise ConnectionError
        return "done"

    async def give_up() -> None:
        with pytest.raises(ConnectionError):
            await fetch([True, True])

    async def go_on() -> None:
        await anyio.sleep(0.5)  # its retry comes when the other call has opened the circuit
        assert await fetch([True, False]) == "done"

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            group.start_soon(go_on)

    clock.run(main)
    assert names(heard) == ["Parked"]
    assert clock() == pytest.approx(6.0)


def test_a_healthy_operation_loses_its_seat_when_the_circuit_is_closed(colour: Colour, service: Recovery) -> None:
    call = colour.decorate(service, Script(ConnectionError()), "fetch", max_retries=0, circuit_breaker_threshold=1,
                           circuit_breaker_timeout=1.0)  # fmt: skip
    operation = service.operation("fetch")
    with pytest.raises(ConnectionError):
        call()
    assert operation.is_observed
    colour.clock.advance(1.0)
    call()
    assert not operation.is_observed


def test_each_key_has_a_circuit_of_its_own() -> None:
    service = Recovery()

    @service.recoverable("get", max_retries=0, circuit_breaker_threshold=1, key=lambda host: host)
    def get(host: str) -> str:
        if host == "sick":
            raise ConnectionError
        return host

    with pytest.raises(ConnectionError):
        get("sick")
    with pytest.raises(CallRejectedError):
        get("sick")
    assert get("well") == "well"


def test_a_recoverable_call_in_a_recoverable_call_makes_four_real_calls(colour: Colour, service: Recovery) -> None:
    script = Script(*[ConnectionError() for _ in range(99)])
    if colour.name == "plain":
        inner: Any = service.recoverable("inner", **FAST)(lambda: script())
        outer: Any = service.recoverable("outer", **FAST)(lambda: inner())
        call = outer
    else:
        inner = service.recoverable("inner", **FAST)(script.as_async())

        async def body() -> str:
            result: str = await inner()
            return result

        outer = service.recoverable("outer", **FAST)(body)
        call = lambda: colour.clock.run(outer, backend=colour.name)  # noqa: E731
    with pytest.raises(ConnectionError):
        call()
    assert script.calls == 4


def test_a_function_made_recoverable_twice_makes_four_real_calls() -> None:
    service = Recovery()
    script = Script(*[ConnectionError() for _ in range(99)])
    call = service.recoverable("twice", **FAST)(service.recoverable("twice", **FAST)(lambda: script()))
    with pytest.raises(ConnectionError):
        call()
    assert script.calls == 4


@pytest.mark.anyio
async def test_a_recursion_makes_four_real_calls() -> None:
    calls = 0

    @Recovery().recoverable(**FAST)
    async def dive(depth: int) -> None:
        nonlocal calls
        if depth:
            await dive(depth - 1)
        calls += 1
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await dive(3)
    assert calls == 4


def test_what_was_raised_from_a_spent_error_is_spent() -> None:
    service = Recovery()
    script = Script(*[ConnectionError() for _ in range(99)])
    inner = service.recoverable("inner", **FAST)(lambda: script())

    @service.recoverable("outer", **FAST)
    def outer() -> None:
        try:
            inner()
        except ConnectionError as error:
            raise RuntimeError("no page") from error

    with pytest.raises(RuntimeError):
        outer()
    assert script.calls == 4


def test_an_outer_call_may_retry_what_an_inner_one_has_tried() -> None:
    service = Recovery()
    script = Script(*[ConnectionError() for _ in range(99)])
    inner = service.recoverable("inner", **FAST)(lambda: script())
    outer = service.recoverable("outer", retry_exhausted=True, **FAST)(lambda: inner())
    with pytest.raises(ConnectionError):
        outer()
    assert script.calls == 16


def test_the_same_exception_object_is_retried_in_an_unrelated_call(colour: Colour, service: Recovery) -> None:
    error = ConnectionError()
    for _ in range(2):
        script = Script(error, error)
        with pytest.raises(ConnectionError):
            colour.decorate(service, script, "fetch", max_retries=1)()
        assert script.calls == 2


class Stop(BaseException):
    """Neither a failure nor known to anybody."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
def test_what_is_no_exception_passes_through_and_is_a_cancellation(kind: type[BaseException]) -> None:
    service = Recovery()
    heard = events_of(service)
    script = Script(kind())
    with pytest.raises(kind):
        service.recoverable(lambda: script())()
    assert (script.calls, names(heard)) == (1, ["OperationCancelled"])


def test_a_cancellation_in_a_retry_is_published_once_and_not_retried() -> None:
    service = Recovery()
    heard = events_of(service, OperationCancelled, RetryScheduled, GaveUp)
    stop = Stop()
    script = Script(ConnectionError(), stop)
    with pytest.raises(Stop) as caught:
        service.recoverable(**FAST)(lambda: script())()
    assert caught.value is stop
    assert names(heard) == ["RetryScheduled", "OperationCancelled"]


@pytest.mark.anyio
async def test_a_cancelled_wait_is_published_as_cancelled() -> None:
    service = Recovery()
    heard = events_of(service, OperationCancelled)
    call = service.recoverable(initial_delay=60.0, jitter="none")(Script(ConnectionError()).as_async())
    async with anyio.create_task_group() as group:
        group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert names(heard) == ["OperationCancelled"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_ends_an_attempt_and_is_retried(backend: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    attempts = 0

    @service.recoverable(attempt_timeout=5.0, **FAST)
    async def slow_at_first() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await anyio.sleep(100.0)
        return "done"

    assert clock.run(slow_at_first, backend=backend) == "done"
    assert clock() == pytest.approx(5.0)


def test_an_async_zero_delay_still_yields_once() -> None:
    service = Recovery()
    order: list[str] = []
    call = service.recoverable(**FAST)(Script(ConnectionError()).as_async())

    async def main() -> None:
        async with anyio.create_task_group() as group:

            async def recover() -> None:
                await call()
                order.append("recovered")

            async def other() -> None:
                order.append("other")

            group.start_soon(recover)
            group.start_soon(other)

    anyio.run(main)
    assert order == ["other", "recovered"]


def test_the_function_keeps_its_signature_name_and_colour() -> None:
    def plain(a: int, *, b: str = "x") -> str:
        """Its docstring."""
        return b * a

    async def colourful() -> None: ...

    decorated = recovery.recoverable(plain)
    assert inspect.signature(decorated) == inspect.signature(plain)
    assert (decorated.__name__, decorated.__doc__) == ("plain", "Its docstring.")
    assert inspect.iscoroutinefunction(recovery.recoverable(colourful))
    assert not inspect.iscoroutinefunction(decorated)


def test_a_method_can_be_recoverable() -> None:
    class Client:
        calls = 0

        @recovery.recoverable(**FAST)
        def fetch(self) -> int:
            self.calls += 1
            if self.calls < 2:
                raise ConnectionError
            return self.calls

    assert Client().fetch() == 2


def test_bare_and_called_and_named_spellings_all_work() -> None:
    bare = recovery.recoverable(lambda: 1)
    called = recovery.recoverable()(lambda: 2)
    named = recovery.recoverable("tests.named")(lambda: 3)
    assert (bare(), called(), named()) == (1, 2, 3)


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class GeneratorCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


class Callme:
    @staticmethod
    def method() -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (generator, "generator is a generator"),
        (async_generator, "async_generator is a generator"),
        (GeneratorCallable(), "is a generator"),
        (Callme, "takes a function"),
        (42, "takes a function"),
        (Callme.__dict__["method"], "below @staticmethod"),
    ],
)
def test_what_cannot_be_tried_again_is_refused_at_decoration(function: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        recovery.recoverable(max_retries=1)(function)


def test_a_timeout_is_refused_for_a_plain_function() -> None:
    with pytest.raises(ValueError, match="timeout cannot be kept"):
        recovery.recoverable(attempt_timeout=1.0)(lambda: None)


def test_a_disabled_service_returns_the_function_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    def function() -> None: ...

    assert Recovery(enabled=False).recoverable(function) is function
    monkeypatch.setenv("RECOVERY_DISABLED", "1")
    assert recovery.recoverable(function) is function


def test_two_names_with_other_settings_are_refused() -> None:
    service = Recovery()
    service.recoverable("fetch", max_retries=1)(lambda: None)
    with pytest.raises(ValueError, match="'fetch' is already defined"):
        service.recoverable("fetch", max_retries=2)(lambda: None)


def test_functions_of_one_name_keep_their_own_settings() -> None:
    service = Recovery()

    def make(retries: int) -> tuple[Script, Any]:
        script = Script(*[ConnectionError() for _ in range(9)])

        @service.recoverable(max_retries=retries, **FAST)
        def fetch() -> str:
            return script()

        return script, fetch

    made = [make(0), make(2), make(1)]
    for _, fetch in made:
        with pytest.raises(ConnectionError):
            fetch()
    assert [script.calls for script, _ in made] == [1, 3, 2]


def test_a_function_decorated_in_a_loop_is_not_remembered_for_ever() -> None:
    service = Recovery()
    for retries in range(20):
        service.recoverable(max_retries=retries)(generator.__call__)()
    gc.collect()
    assert len(service._registry._definitions) <= 1


def test_closures_of_one_name_have_a_circuit_each() -> None:
    service = Recovery()

    def make(is_up: bool) -> Any:
        @service.recoverable(max_retries=0, circuit_breaker_threshold=1)
        def fetch() -> str:
            if not is_up:
                raise ConnectionError
            return "page"

        return fetch

    sick, well = make(False), make(True)
    with pytest.raises(ConnectionError):
        sick()
    assert well() == "page"


def test_settings_beside_a_function_are_refused() -> None:
    with pytest.raises(TypeError, match="a name and settings, or a function"):
        recovery.recoverable(lambda: None, max_retries=0)  # type: ignore[call-overload]


def test_a_rejected_call_leaves_no_cycle() -> None:
    service = Recovery()
    call = service.recoverable("sick", max_retries=0, circuit_breaker_threshold=1)(lambda: Script(ConnectionError())())
    with contextlib.suppress(ConnectionError):
        call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            with contextlib.suppress(CallRejectedError):
                call()
        left = [one for one in gc.get_objects() if isinstance(one, CallRejectedError) and one.operation == "sick"]
    finally:
        gc.enable()
    assert left == []


@pytest.mark.parametrize("end", ["cancelled", "permanent"])
def test_a_probe_that_gives_its_permit_back_wakes_who_waits_for_it(end: str) -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock)
    breaker = BreakerPolicy(failure_threshold=1, break_duration=5.0, lease=600.0)

    @service.recoverable("fetch", max_retries=0, breaker=breaker, when_open="wait")
    async def fetch(kind: str) -> str:
        if kind == "fails":
            raise ConnectionError
        if kind == "permanent":
            await anyio.sleep(1.0)
            raise ValueError
        if kind == "cancelled":
            await anyio.sleep(3600.0)
        return "done"

    async def probe() -> None:
        with anyio.move_on_after(6.0), contextlib.suppress(ValueError):
            await fetch(end)

    async def main() -> None:
        with contextlib.suppress(ConnectionError):
            await fetch("fails")
        async with anyio.create_task_group() as group:
            group.start_soon(probe)
            await anyio.sleep(5.1)
            assert await fetch("well") == "done"

    clock.run(main)
    assert clock() < 20.0


def test_a_checkpoint_of_an_attempt_that_is_over_is_not_taken() -> None:
    store = MemoryStore()
    with Recovery(store=store) as service:
        heard = events_of(service, CheckpointSaved)
        attempt = service.operation("copy", durability="journal").start()
        attempt.fail(ConnectionError())
        attempt.checkpoint(b"1")
    assert heard == []


class Counting:
    """A clock that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return 0.0


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_success_path_builds_no_event_and_takes_no_clock(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Counting()
    published: list[object] = []
    with Recovery(store=MemoryStore(), clock=clock, enable_logging=True) as service:
        monkeypatch.setattr(service.bus, "publish", published.append)
        monkeypatch.setattr(service.bus, "cascade", published.append)
        monkeypatch.setattr(service.bus, "new_call_id", lambda: published.append("an id"))
        reads = clock.reads
        if kind == "plain":
            plain = service.recoverable("plain")(lambda: None)
            for _ in range(1000):
                plain()
        else:
            calls = service.recoverable("async")(Script().as_async())

            async def main() -> None:
                for _ in range(1000):
                    await calls()

            anyio.run(main)
        assert service.operation(kind).successes == 1000
    assert (published, clock.reads - reads) == ([], 0)


def test_ten_thousand_successes_leave_nothing_for_the_garbage_collector() -> None:
    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable("healthy")(lambda: None)
        call()
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for _ in range(10_000):
                call()
            after = len(gc.get_objects())
            garbage = gc.collect()
        finally:
            gc.enable()
    assert after - before < 50  # the journal's thread may have made a few
    assert garbage < 50


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_call_that_gave_up_leaves_no_cycle(kind: str) -> None:
    service = Recovery()
    script = Script(*[ConnectionError() for _ in range(400)])
    function = (lambda: script()) if kind == "plain" else script.as_async()
    call: Any = service.recoverable("sick", breaker=None, **FAST)(function)

    async def main() -> None:
        for _ in range(50):
            with contextlib.suppress(ConnectionError):
                await call()

    def plainly() -> None:
        for _ in range(50):
            with contextlib.suppress(ConnectionError):
                call()

    gc.collect()
    gc.disable()
    try:
        plainly() if kind == "plain" else anyio.run(main)
        errors = [one for one in gc.get_objects() if isinstance(one, ConnectionError) and one.__traceback__ is not None]
    finally:
        gc.enable()
    assert errors == []


def test_the_traceback_leads_to_where_the_function_raised() -> None:
    def broken() -> None:
        raise ConnectionError

    call = Recovery().recoverable(max_retries=1, **FAST)(broken)
    with pytest.raises(ConnectionError) as caught:
        call()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"


def test_threads_recover_each_by_itself() -> None:
    service = Recovery()
    scripts = [Script(ConnectionError()) for _ in range(8)]
    call = service.recoverable("each", **FAST)(lambda script: script())
    threads = [threading.Thread(target=call, args=(script,)) for script in scripts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [script.calls for script in scripts] == [2] * 8


def test_thirty_percent_noise_is_rescued_ninety_nine_times_in_a_hundred() -> None:
    rng = random.Random(2026)
    with Recovery(store=MemoryStore()) as service:
        opened = events_of(service, CircuitOpened)

        @service.recoverable("noisy", **FAST)
        def noisy() -> None:
            if rng.random() < 0.3:
                raise ConnectionError

        rescued = 0
        for _ in range(20_000):
            try:
                noisy()
            except ConnectionError:
                continue
            rescued += 1
    assert rescued / 20_000 >= 0.99
    assert opened == []
    assert service.journal is not None
    assert service.journal.dropped == 0


def test_of_twenty_thousand_permanent_failures_each_is_attempted_once() -> None:
    attempts = 0
    with Recovery(store=MemoryStore(), breaker=None) as service:

        @service.recoverable("wrong", **FAST)
        def wrong() -> None:
            nonlocal attempts
            attempts += 1
            raise ValueError

        for _ in range(20_000):
            with pytest.raises(ValueError):
                wrong()
    assert attempts == 20_000


def test_a_recovered_call_says_how_long_it_took(colour: Colour, service: Recovery) -> None:
    heard = events_of(service, OperationRecovered)
    colour.decorate(service, Script(ConnectionError()), initial_delay=4.0, jitter="none")()
    [event] = heard
    assert isinstance(event, OperationRecovered)
    assert event.elapsed == pytest.approx(4.0)
