"""``recovery.leased``: one leg of a call that a cluster owns."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from adapters.memory import MemoryStore
from events.conditions import Condition
from events.event import CallEvent
from events.evidence import Category
from events.kinds import EVENTS
from events.lease_events import CallHandedBack
from events.operation_events import (
    CheckpointSaved,
    GaveUp,
    OperationCancelled,
    OperationFailed,
    OperationQuarantined,
    OperationResumed,
    OperationStarted,
    OperationSucceeded,
    ProgressMade,
)
from recovery import BreakerPolicy, Recovery, Strategy, context, leased
from recovery.testing import Script, VirtualClock

RETRY: dict[str, Any] = {"max_retries": 3, "initial_delay": 1.0, "backoff_factor": 10.0, "jitter": "none"}


class Node:
    """A service with one operation, "render", on a virtual clock; and what it publishes."""

    def __init__(self, function: Callable[..., Any], clock: VirtualClock | None = None, **settings: Any) -> None:
        self.clock = clock or VirtualClock()
        options = {name: settings.pop(name) for name in ("store", "enabled") if name in settings}
        self.service = Recovery(clock=self.clock, enable_logging=False, **options)
        self.events: list[CallEvent] = []
        for kind in EVENTS:
            if issubclass(kind, CallEvent):
                self.service.bus.subscribe(kind, self.take)
        self.wrapper = self.service.recoverable("render", **settings)(function)
        self.operation = leased.operation(self.service, "render")

    def take(self, event: Any) -> None:
        self.events.append(event)

    def kinds(self) -> list[str]:
        return [type(one).__name__ for one in self.events]

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.events if type(one) is kind]

    def run(self, call: leased.LeasedCall, keep: float = 2.0) -> leased.Ending:
        async def leg() -> leased.Ending:
            return await self.operation.run(call, keep=keep)

        ending: leased.Ending = self.clock.run(leg)
        return ending


def call(**changes: Any) -> leased.LeasedCall:
    return leased.LeasedCall(**{"id": "render/job", "fence": 7, **changes})


def as_kind(kind: str, script: Script) -> Callable[..., Any]:
    return script.as_async() if kind == "async" else script


both = pytest.mark.parametrize("kind", ["async", "plain"])


@both
def test_a_leg_that_succeeds_gives_the_result_as_json(kind: str) -> None:
    node = Node(as_kind(kind, Script({"frames": 3})))
    assert node.run(call()) == leased.Succeeded(result=b'{"frames":3}', attempt=1)
    assert node.operation.decode_result(b'{"frames":3}') == {"frames": 3}
    (started,) = node.of(OperationStarted)
    assert (started.call, started.leased, bytes(started.arguments)) == ("render/job@7", True, b"")


@both
def test_a_short_wait_is_waited_for_and_a_longer_one_is_handed_back(kind: str) -> None:
    script = Script(ConnectionError("one"), ConnectionError("two"))
    node = Node(as_kind(kind, script), **RETRY)
    ending = node.run(call())
    assert isinstance(ending, leased.Postponed)
    assert (script.calls, ending.after, node.clock()) == (2, 10.0, 1.0)
    state = ending.state
    assert (state.attempt, state.retries, state.elapsed, state.delay) == (3, 2, 1.0, 10.0)
    assert (state.has_failed, state.is_cut_off, ending.is_handed_back, ending.asks_person) == (
        True,
        False,
        False,
        False,
    )
    assert state.failure is not None
    assert state.failure.category is Category.TRANSIENT
    (back,) = node.of(CallHandedBack)
    assert (back.call, back.attempt, back.after, node.kinds()[-1]) == ("render/job@7", 3, 10.0, "CallHandedBack")


@both
@pytest.mark.parametrize("attempts", [0, 1])
def test_no_attempt_begins_after_the_lease(kind: str, attempts: int) -> None:
    script = Script(ConnectionError("one"))
    node = Node(as_kind(kind, script), **RETRY)

    async def leg() -> leased.Ending:
        return await node.operation.run(call(), is_held=lambda: script.calls < attempts)

    ending = node.clock.run(leg)
    assert isinstance(ending, leased.Postponed)
    assert (script.calls, ending.after, ending.is_handed_back) == (attempts, 0.0, True)
    state = ending.state
    assert (state.attempt, state.retries, state.has_failed, state.is_cut_off) == (
        attempts + 1,
        attempts,
        bool(attempts),
        False,
    )
    (back,) = node.of(CallHandedBack)
    assert (back.attempt, back.reason) == (attempts + 1, "its lease is over, and another worker may have it")


def test_a_call_that_is_cancelled_while_it_waits_is_so_although_its_lease_is_over() -> None:
    script = Script(ConnectionError("one"))
    node = Node(script.as_async(), **RETRY)

    async def leg() -> leased.Ending:
        running = asyncio.create_task(node.operation.run(call(), is_held=lambda: script.calls < 1))
        await asyncio.sleep(0.5)
        assert node.service.calls.cancel("render/job@7", "no need")
        return await running

    assert node.clock.run(leg) == leased.Cancelled(reason="no need", attempt=2)


def test_the_next_leg_goes_on_on_another_node_with_the_attempts_and_the_budget_of_the_first() -> None:
    first = Node(Script(*[ConnectionError()] * 2).as_async(), **RETRY).run(call())
    assert isinstance(first, leased.Postponed)
    state = leased.later(msgspec.structs.replace(first.state, fence=9), 10.0)
    wire = msgspec.json.decode(msgspec.json.encode(state), type=leased.LeasedCall)
    assert (wire, wire.elapsed) == (state, 11.0)
    script = Script(ConnectionError(), ConnectionError())
    other = Node(script.as_async(), VirtualClock(5000.0), **RETRY)
    second = other.run(wire)
    assert isinstance(second, leased.Postponed)
    assert script.calls == 1
    assert (second.state.attempt, second.state.retries, second.state.elapsed, second.after) == (4, 3, 11.0, 60.0)
    last = other.run(leased.later(second.state, 60.0))
    assert isinstance(last, leased.Failed)
    assert (last.error, last.attempt, last.reason, last.category) == (
        "ConnectionError", 4, "out of retries (3)", Category.TRANSIENT,
    )  # fmt: skip


def test_the_time_that_a_call_may_take_goes_on_over_legs() -> None:
    node = Node(Script(ConnectionError()).as_async(), **{**RETRY, "max_elapsed": 30.0})
    ending = node.run(call(attempt=2, retries=1, elapsed=25.0, has_failed=True))
    assert isinstance(ending, leased.Failed)
    assert "out of time" in ending.reason


@both
def test_the_context_has_the_fence_the_checkpoint_and_one_key_for_all_legs(kind: str) -> None:
    found: list[Any] = []

    def body() -> None:
        found.extend([context.fence(), context.saved(), context.key(), context.attempt()])
        context.checkpoint({"frame": 4})
        raise ConnectionError

    async def abody() -> None:
        body()

    node = Node(abody if kind == "async" else body, max_retries=3, initial_delay=30.0, jitter="none")
    ending = node.run(call(attempt=2, saved=b'{"frame":3}', has_failed=True))
    assert found == [7, {"frame": 3}, "render/job", 2]
    assert isinstance(ending, leased.Postponed)
    assert ending.state.saved == b'{"frame":4}'
    assert [bytes(one.data) for one in node.of(CheckpointSaved)] == [b'{"frame":4}']
    with pytest.raises(LookupError, match="no call of a cluster"):
        context.fence()


def test_progress_is_published_and_kept() -> None:
    clock = VirtualClock()

    async def body() -> None:
        for done in (10.0, 20.0):
            context.progress(done)
            clock.advance(1.5)
        raise ConnectionError

    node = Node(body, clock, max_retries=3, initial_delay=30.0)
    ending = node.run(call(deaths=2, idempotency_key="job"))
    assert isinstance(ending, leased.Postponed)
    assert (ending.state.done, ending.state.deaths) == (20.0, 0)
    assert [one.done for one in node.of(ProgressMade)] == [20.0]


def test_a_call_that_asks_a_person_is_handed_back_and_goes_on_when_one_says_retry() -> None:
    script = Script(ConnectionError())
    node = Node(script.as_async(), max_retries=0, then="ask")
    ending = node.run(call(elapsed=3.0))
    assert isinstance(ending, leased.Postponed)
    assert (ending.asks_person, ending.after, ending.state.attempt) == (True, math.inf, 2)
    again = node.run(ending.state)
    assert isinstance(again, leased.Postponed)
    assert again.asks_person
    assert script.calls == 1
    state = leased.retried(ending.state)
    assert (state.asks_person, state.elapsed) == (False, 0.0)
    assert node.run(state) == leased.Succeeded(result=b'"done"', attempt=2)


def test_an_open_circuit_defers_a_call_that_is_handed_back_before_its_attempt() -> None:
    script = Script(ConnectionError())
    breaker = BreakerPolicy(failure_threshold=1, break_duration=20.0)
    node = Node(script.as_async(), max_retries=0, breaker=breaker, when_open="wait")
    assert isinstance(node.run(call(id="render/other")), leased.Failed)
    ending = node.run(call())
    assert isinstance(ending, leased.Postponed)
    assert script.calls == 1
    assert (ending.state.attempt, ending.state.retries, ending.after) == (1, 0, 20.0)
    assert "circuit" in ending.why
    node.clock.advance(20.0)
    assert isinstance(node.run(leased.later(ending.state, 20.0)), leased.Succeeded)


def test_a_park_on_a_condition_looks_again_in_each_leg_and_uses_no_retry() -> None:
    met = False
    disk = Condition("disk space", lambda: met, every=0.5)
    settings: dict[str, Any] = {
        "max_retries": 1,
        "per_category": {Category.TRANSIENT: Strategy(wait_for=(disk,), wait_timeout=3600.0)},
    }
    script = Script(ConnectionError())
    node = Node(script.as_async(), **settings)
    first = node.run(call())
    assert isinstance(first, leased.Postponed)
    assert (first.state.is_parked, first.state.looks, first.state.retries, first.state.attempt) == (True, 1, 0, 2)
    assert first.after == 5.0
    assert "disk space" in first.why
    assert node.clock() == 2.0
    second = node.run(leased.later(first.state, first.after))
    assert isinstance(second, leased.Postponed)
    assert script.calls == 1
    assert (second.state.looks, second.after, second.state.attempt) == (2, 7.5, 2)
    assert second.state.within == pytest.approx(3600.0 - 2.0 - 5.0 - 2.0)
    met = True
    assert node.run(leased.later(second.state, second.after)) == leased.Succeeded(result=b'"done"', attempt=2)


def test_a_park_ends_over_legs_when_its_time_is_over() -> None:
    never = Condition("disk space", lambda: False, every=0.5)
    node = Node(
        Script(ConnectionError()).as_async(),
        per_category={Category.TRANSIENT: Strategy(wait_for=(never,), wait_timeout=8.0)},
    )
    first = node.run(call())
    assert isinstance(first, leased.Postponed)
    last = node.run(leased.later(first.state, first.after))
    assert isinstance(last, leased.Failed)
    assert "out of time" in last.reason
    assert last.failure is not None
    assert (last.error, last.attempt) == ("ConnectionError", 1)


def test_a_condition_of_before_is_looked_at_and_handed_back() -> None:
    met = False
    server = Condition("server", lambda: met, every=0.5)
    script = Script()
    node = Node(script.as_async(), before=server)
    ending = node.run(call())
    assert isinstance(ending, leased.Postponed)
    assert script.calls == 0
    assert (ending.state.attempt, ending.state.looks, ending.state.is_parked, ending.after) == (1, 1, False, 5.0)
    met = True
    assert isinstance(node.run(leased.later(ending.state, 5.0)), leased.Succeeded)


def test_a_claim_that_does_not_fit_is_handed_back() -> None:
    node = Node(Script().as_async(), claims={"vram": 8.0})
    free = 4.0
    node.service.resource("vram", total=16.0, free=lambda: free)
    ending = node.run(call())
    assert isinstance(ending, leased.Postponed)
    assert "vram" in ending.why
    free = 16.0
    assert isinstance(node.run(ending.state), leased.Succeeded)


def test_a_rejected_call_fails_without_an_attempt() -> None:
    node = Node(Script().as_async(), claims={"vram": 32.0})
    node.service.resource("vram", total=16.0)
    ending = node.run(call())
    assert isinstance(ending, leased.Failed)
    assert (ending.is_rejected, ending.attempt) == (True, 0)


@both
def test_a_failure_that_no_retry_helps_ends_the_call(kind: str) -> None:
    node = Node(as_kind(kind, Script(PermissionError("no: token=abc123def456"))))
    ending = node.run(call())
    assert isinstance(ending, leased.Failed)
    assert (ending.error, ending.attempt, ending.is_rejected) == ("PermissionError", 1, False)
    assert "abc123def456" not in ending.text
    assert len(node.of(GaveUp)) == 1
    assert not node.of(CallHandedBack)


def test_arguments_that_do_not_fit_and_results_that_are_no_data_fail_the_call() -> None:
    async def render(frame: int) -> object:
        return object()

    node = Node(render)
    unfit = node.run(call(arguments=b'[[],{"scene":1}]'))
    assert isinstance(unfit, leased.Failed)
    assert unfit.attempt == 0
    assert "arguments" in unfit.reason
    unkept = node.run(call(arguments=node.operation.encode((3,), {})))
    assert isinstance(unkept, leased.Failed)
    assert unkept.attempt == 1
    assert "result" in unkept.reason


def running_until_told(service: Recovery, kind: str) -> tuple[leased.LeasedOperation, threading.Event, object]:
    """An operation whose body runs until it is told to end, what says that it has begun, and what keeps it alive."""
    begun = threading.Event()

    def body() -> None:
        begun.set()
        while not context.cancelled():
            threading.Event().wait(0.001)
        raise RuntimeError("stopped between two blocks")

    async def abody() -> None:
        begun.set()
        await asyncio.sleep(60)

    wrapper = service.recoverable("render")(abody if kind == "async" else body)
    return leased.operation(service, "render"), begun, wrapper


@both
def test_a_leg_is_cancelled_by_its_id(kind: str) -> None:
    service = Recovery(enable_logging=False)
    events: list[Any] = []
    service.bus.subscribe(OperationCancelled, events.append)
    operation, begun, wrapper = running_until_told(service, kind)

    async def main() -> leased.Ending:
        def cancel() -> None:
            begun.wait(5.0)
            assert service.calls.cancel("render/job@7", "no need") != ""

        threading.Thread(target=cancel).start()
        return await operation.run(call())

    assert asyncio.run(main()) == leased.Cancelled(reason="no need", attempt=1)
    assert [one.call for one in events] == ["render/job@7"]
    assert wrapper is not None


@both
def test_a_leg_that_is_handed_back_ends_without_an_outcome(kind: str) -> None:
    service = Recovery(enable_logging=False)
    events: list[Any] = []
    for kind_of in (OperationCancelled, CallHandedBack, GaveUp):
        service.bus.subscribe(kind_of, events.append)
    operation, begun, wrapper = running_until_told(service, kind)
    assert not leased.hand_back(service, "render/job@7", "the worker drains")

    async def main() -> leased.Ending:
        def drain() -> None:
            begun.wait(5.0)
            assert leased.hand_back(service, "render/job@7", "the worker drains")

        threading.Thread(target=drain).start()
        return await operation.run(call(retries=1, attempt=2, has_failed=True))

    ending = asyncio.run(main())
    assert isinstance(ending, leased.Postponed)
    assert (ending.is_handed_back, ending.why, ending.after) == (True, "the worker drains", 0.0)
    assert (ending.state.attempt, ending.state.retries, ending.state.is_cut_off) == (2, 1, True)
    assert [(type(one), one.reason) for one in events] == [(CallHandedBack, "the worker drains")]
    assert wrapper is not None


@both
def test_a_leg_whose_task_is_cancelled_is_handed_back(kind: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    def body() -> None:
        begun.set()
        while not context.cancelled():
            threading.Event().wait(0.001)
        ended.set()

    async def abody() -> None:
        begun.set()
        await asyncio.sleep(60)

    service = Recovery(enable_logging=False)
    events: list[Any] = []
    service.bus.subscribe([OperationCancelled, CallHandedBack], events.append)
    wrapper = service.recoverable("render")(abody if kind == "async" else body)
    operation = leased.operation(service, "render")

    async def main() -> None:
        task = asyncio.create_task(operation.run(call()))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert kind == "async" or ended.wait(5.0)
    assert [type(one) for one in events] == [CallHandedBack]
    assert wrapper is not None


@both
@pytest.mark.parametrize("is_defined_off", [False, True])
def test_a_service_that_is_switched_off_makes_one_attempt(kind: str, is_defined_off: bool) -> None:
    fences: list[int] = []

    def body() -> str:
        fences.append(context.fence())
        context.checkpoint(3)
        raise ConnectionError("gone")

    async def abody() -> str:
        return body()

    function = abody if kind == "async" else body
    node = Node(function, enabled=not is_defined_off, **RETRY)
    node.service.configure(enabled=False)
    ending = node.run(call())
    assert isinstance(ending, leased.Failed)
    assert (ending.error, ending.attempt, fences) == ("ConnectionError", 1, [7])
    assert node.kinds() == ["CheckpointSaved"]


def test_a_name_that_is_not_defined_is_refused_with_the_names_that_are() -> None:
    node = Node(Script())
    with pytest.raises(LookupError, match="'rendr'; there are: render"):
        leased.operation(node.service, "rendr")


def test_keys_come_from_the_arguments() -> None:
    async def render(scene: str) -> None: ...

    keyed: dict[str, Any] = {"store": MemoryStore(), "idempotency_key": str.lower}
    node = Node(render, version="2", cluster="required", **keyed)
    operation = node.operation
    assert (operation.key_of(("A",), {}), operation.version, operation.cluster) == ("a", "2", "required")
    assert operation.decode(operation.encode(("A",), {})) == (("A",), {})
    with pytest.raises(TypeError):
        operation.encode((), {"frame": 1})
    with pytest.raises(ValueError, match="cluster"):
        Recovery().recoverable("other", cluster="always")  # type: ignore[arg-type]


# deaths


def test_a_death_uses_a_retry_unless_the_attempt_came_further() -> None:
    dead = leased.after_death(call(attempt=2, retries=1))
    assert (dead.attempt, dead.retries, dead.deaths, dead.has_failed, dead.is_cut_off) == (3, 2, 1, True, True)
    further = leased.after_death(call(attempt=2, retries=1, deaths=2), came_further=True)
    assert (further.attempt, further.retries, further.deaths) == (2, 1, 0)


def test_a_call_that_kills_its_process_does_not_go_round_for_ever() -> None:
    for settings, deaths in (({"max_retries": 2}, 2), ({"max_retries": None}, 3)):
        operation = Node(Script(), **settings).operation
        state, legs = call(), 0
        while leased.why_quarantined(operation, state) is None:
            state, legs = leased.after_death(state), legs + 1
        assert legs == deaths
        assert leased.why_quarantined(operation, state, came_further=True) is None


def test_an_effect_that_may_be_there_is_not_repeated() -> None:
    script = Script()
    node = Node(script.as_async(), idempotent=False)
    ending = node.run(leased.after_death(call()))
    assert isinstance(ending, leased.Failed)
    assert script.calls == 0
    assert "may have had its effect" in ending.reason


# the local journal


def test_the_journal_keeps_no_arguments_of_a_leg_and_its_end() -> None:
    store = MemoryStore()
    node = Node(Script(ConnectionError()).as_async(), store=store, **{**RETRY, "initial_delay": 60.0}, resumable=True)
    arguments = node.operation.encode(("scene-secret",), {})
    ending = node.run(call(arguments=arguments))
    assert isinstance(ending, leased.Postponed)
    record = node.service.calls.find("render/job@7")
    assert record is not None
    assert (record.state, record.is_leased, record.arguments) == ("handed back", True, None)
    node.service.close()
    assert not [row for row in store.rows if b"scene-secret" in row.body]


def test_a_leg_that_a_dead_process_left_is_not_resumed_but_ended() -> None:
    store = MemoryStore()
    node = Node(Script(OperationFailed).as_async(), store=store, resumable=True)
    started = OperationStarted(
        at=0.0, operation="render", call="render/job@7", leased=True, idempotency_key="render/job"
    )
    node.service.bus.publish(started)
    node.service.close()
    script = Script()
    again = Recovery(store=store, enable_logging=False)
    backs: list[CallHandedBack] = []
    again.bus.subscribe(CallHandedBack, backs.append)
    resumed: list[Any] = []
    again.bus.subscribe([OperationResumed, OperationQuarantined], resumed.append)
    wrapper = again.recoverable("render", resumable=True, idempotency_key=lambda *_: "render/job")(script)
    resumption = again.resume()
    assert resumption.wait(5.0)
    assert (resumption.calls, resumption.left, resumption.quarantined, script.calls) == ([], [], [], 0)
    assert [(one.call, one.reason) for one in backs] == [("render/job@7", "its process died")]
    assert wrapper() == "done"
    assert script.calls == 1
    assert resumed == []
    again.close()
    third = Recovery(store=store, enable_logging=False)
    third.bus.subscribe(CallHandedBack, backs.append)
    assert third.resume().wait(5.0)
    assert len(backs) == 1
    third.close()


def test_success_and_failure_are_published_as_of_any_call() -> None:
    node = Node(Script(ConnectionError()).as_async(), **RETRY)
    node.run(call())
    assert node.kinds() == [
        "OperationStarted", "OperationFailed", "FailureClassified", "RetryScheduled", "OperationStarted",
        "OperationRecovered", "OperationSucceeded",
    ]  # fmt: skip
    assert node.of(OperationSucceeded)[0].call == "render/job@7"


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("settings", [{}, {"before": [Condition("room", lambda: True)]}], ids=["free", "held"])
def test_a_body_that_exits_fails_and_its_worker_goes_on(kind: str, settings: dict[str, Any]) -> None:
    def render() -> None:
        raise SystemExit(3)

    async def arender() -> None:
        raise SystemExit(3)

    node = Node(arender if kind == "async" else render, max_retries=0, **settings)
    ending = node.run(call())
    assert isinstance(ending, leased.Failed)
    assert (ending.error, ending.attempt) == ("RuntimeError", 1)
    assert "its body called sys.exit(3)" in ending.text


class Panic(BaseException):
    """As an extension in Rust raises it."""


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize(("error", "end"), [(asyncio.CancelledError, leased.Cancelled), (Panic, leased.Failed)])
def test_a_body_that_raises_no_exception_ends_its_call(kind: str, error: type[BaseException], end: type) -> None:
    def render() -> None:
        raise error("out of range")

    async def arender() -> None:
        raise error("out of range")

    node = Node(arender if kind == "async" else render, max_retries=0)
    ending = node.run(call())
    assert isinstance(ending, end)
    said = ending.text if isinstance(ending, leased.Failed) else ending.reason
    assert said == f"its body raised {error.__qualname__}, which is no Exception: out of range"
