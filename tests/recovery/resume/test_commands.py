"""Commands from outside the process, and the warnings for those that cannot be carried out."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from adapters.memory import MemoryStore
from events.bus import Bus
from events.errors import CallRejectedError, RecoveryError
from events.operation import Operation
from events.operation_events import CallSteered, GaveUp, OperationQuarantined
from events.verdicts import Park, Retry
from recovery.execution.steering import Steering
from recovery.journal.history import CallRecord
from recovery.journal.store import Command, CommandName
from recovery.registry import Registry
from recovery.resume.commands import Acts, CommandHandler
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.wait import Wait
from tests.recovery.resume.dead_process import SETTINGS, leave

DELAY = Retry(60.0)


@pytest.fixture
def waiting() -> WaitingCalls:
    return WaitingCalls(lambda: 0.0, lambda: 0.0)


def handler_of(waiting: WaitingCalls, bus: Bus, resumption: Callable[[], Resumption | None]) -> CommandHandler:
    acts = Acts(id, id, id, id, id)  # type: ignore[arg-type]  # none of them is asked here
    return CommandHandler(waiting, Steering(waiting, bus, Registry(bus)), bus, resumption, acts)


def waits(waiting: WaitingCalls, bus: Bus, verdict: Retry | Park = DELAY) -> str:
    """The id of a new call that waits."""
    wait = Wait(waiting.conditions, Operation("fetch", bus).start(), 2, verdict)
    waiting.enter(wait)
    return wait.attempt.call.id


def quarantined(call: str, start: Callable[[object], bool] = lambda _: True) -> Resumption:
    resumption = Resumption(start)
    resumption.quarantined.append(CallRecord(call=call, operation="fetch"))
    return resumption


@pytest.mark.parametrize(
    ("name", "steered"), [("retry", "retry now"), ("pause", "pause"), ("give up", "give up"), ("unpause", None)]
)
def test_a_command_steers_a_waiting_call(name: CommandName, steered: str | None, waiting: WaitingCalls) -> None:
    bus, events = Bus(), []
    bus.subscribe(CallSteered, lambda event: events.append((event.command, event.reason)))
    call = waits(waiting, bus)
    answer = handler_of(waiting, Bus(), lambda: None).carry_out(Command(name, call, "by hand"))
    assert events == ([(steered, "by hand")] if steered else [])
    assert answer.is_done == bool(steered)


def test_retry_resumes_a_quarantined_call(waiting: WaitingCalls) -> None:
    resumption = quarantined("r-1")
    handler_of(waiting, Bus(), lambda: resumption).carry_out(Command("retry", "r-1"))
    assert [call.record.call for call in resumption.calls] == ["r-1"]


def test_a_command_concerns_calls_that_wait_or_are_quarantined_here(waiting: WaitingCalls) -> None:
    resumption = quarantined("r-1")
    handler, call = handler_of(waiting, Bus(), lambda: resumption), waits(waiting, Bus())
    assert [handler.concerns(one) for one in (call, "r-1", "unknown")] == [True, True, False]


def test_a_process_answers_for_every_call_that_it_began(waiting: WaitingCalls) -> None:
    handler = handler_of(waiting, Bus(run="r"), lambda: None)
    assert [handler.concerns(call) for call in ("r-7", "other-7", "r", "r-7-7")] == [True, False, False, False]


@pytest.mark.parametrize("place", ["left", "quarantined"])
def test_a_call_that_is_not_resumed_is_given_up(place: str, waiting: WaitingCalls) -> None:
    bus, events, resumption = Bus(), [], Resumption(lambda _: True)
    bus.subscribe(GaveUp, lambda event: events.append((event.call, event.operation, event.attempt, event.reason)))
    getattr(resumption, place).append(CallRecord(call="r-1", operation="fetch", state="waiting", attempt=3))
    handler = handler_of(waiting, bus, lambda: resumption)
    assert handler.concerns("r-1")
    assert handler.carry_out(Command("give up", "r-1", "no use")).is_done
    assert events == [("r-1", "fetch", 2, "given up by hand: no use")]  # the last attempt that was made
    assert not handler.concerns("r-1")
    assert not handler.carry_out(Command("give up", "r-1")).is_done


def test_an_answer_says_what_happens_now(waiting: WaitingCalls) -> None:
    call, handler = waits(waiting, Bus()), handler_of(waiting, Bus(), lambda: None)
    names: list[CommandName] = ["pause", "unpause", "retry"]
    said = [handler.carry_out(Command(name, call)).said for name in names]
    assert said == ["paused", "goes on waiting, for 60.0 s", "attempt 2 starts now"]


def test_an_answer_says_how_long_a_server_has_asked_to_wait(waiting: WaitingCalls) -> None:
    waiting.limited = lambda operation, _: 26.0 if operation == "fetch" else 0.0
    handler, wish = handler_of(waiting, Bus(), lambda: None), "it waits for at least 26 s more, as the server has asked"
    refused = handler.carry_out(Command("retry", waits(waiting, Bus(), Park(60.0, ("rate limit: fetch",)))))
    assert (refused.is_done, refused.said) == (False, f"{wish}; no order shortens that")
    hastened = handler.carry_out(Command("retry", waits(waiting, Bus())))
    assert (hastened.is_done, hastened.said) == (True, wish)


def test_a_forked_child_leaves_the_calls_of_its_parent_alone(waiting: WaitingCalls) -> None:
    handler, bus = handler_of(waiting, Bus(), lambda: None), Bus()
    before = waits(waiting, bus)
    handler.after_fork()
    assert [handler.concerns(call) for call in (before, waits(waiting, bus))] == [False, True]


@pytest.mark.parametrize(
    ("names", "warning"),
    [
        (["pause", "pause"], "cannot pause call {call}: it is paused already"),
        (["unpause"], "cannot unpause call {call}: it is not paused"),
    ],
)
def test_a_command_that_changes_nothing_says_why(
    names: list[CommandName], warning: str, waiting: WaitingCalls, caplog: pytest.LogCaptureFixture
) -> None:
    call = waits(waiting, Bus())
    for name in names:
        handler_of(waiting, Bus(), lambda: None).carry_out(Command(name, call))
    assert caplog.messages == [warning.format(call=call)]


@pytest.mark.parametrize("name", ["retry", "pause", "unpause", "give up"])
def test_a_command_for_a_call_that_does_not_wait_says_so(
    name: CommandName, waiting: WaitingCalls, caplog: pytest.LogCaptureFixture
) -> None:
    handler_of(waiting, Bus(), lambda: None).carry_out(Command(name, "7f3a-2"))
    assert caplog.messages == [f"cannot {name} call 7f3a-2: it is not waiting"]


def refuse(_: object) -> None:
    raise RecoveryError("no loop runs")


@pytest.mark.parametrize(
    ("name", "why"), [("retry", "no loop runs"), ("pause", "it is quarantined, and can only be retried or given up")]
)
def test_a_quarantined_call_that_cannot_be_steered_says_why(
    name: CommandName, why: str, waiting: WaitingCalls, caplog: pytest.LogCaptureFixture
) -> None:
    handler_of(waiting, Bus(), lambda: quarantined("7f3a-2", refuse)).carry_out(Command(name, "7f3a-2"))
    assert caplog.messages == [f"cannot {name} call 7f3a-2: {why}"]


def test_a_call_that_was_given_up_is_not_resumed_by_a_later_definition() -> None:
    leave(store := MemoryStore(), 7)
    runs: list[int] = []
    with Recovery(store=store) as service:
        resumption = service.resume()
        assert resumption.wait(10.0)
        [record] = resumption.left
        assert resumption.drop(record.call) == record
        service.recoverable("work", **SETTINGS)(runs.append)
        assert service.resume().wait(10.0)
        assert (runs, resumption.left, resumption.calls) == ([], [], [])


def test_a_quarantined_call_that_was_given_up_rejects_no_equal_call() -> None:
    leave(store := MemoryStore(), 7)
    with Recovery(store=store) as service:
        [left] = service.journal.pending().calls if service.journal is not None else ()
        service.bus.publish(OperationQuarantined(at=0.0, operation="work", call=left.call, reason="it crashes"))
    runs: list[int] = []
    with Recovery(store=store) as service:
        work = service.recoverable("work", **SETTINGS)(runs.append)
        resumption = service.resume()
        assert resumption.wait(10.0)
        with pytest.raises(CallRejectedError):
            work(7)
        assert resumption.drop(left.call) is not None
        work(7)
    assert runs == [7]


def test_a_call_that_runs_again_cannot_be_dropped() -> None:
    leave(store := MemoryStore(), 7)
    begun, go_on = threading.Event(), threading.Event()
    with Recovery(store=store) as service:

        def work(_: int) -> None:
            begun.set()
            assert go_on.wait(10.0)

        service.recoverable("work", **SETTINGS)(work)
        resumption = service.resume()
        assert begun.wait(10.0)
        assert resumption.drop(resumption.calls[0].record.call) is None
        go_on.set()
        assert resumption.wait(10.0)
