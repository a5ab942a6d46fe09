"""Commands from outside the process, carried out on calls that wait, run, are left, or ended, and on incidents."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from events.bus import Bus
from events.errors import RecoveryError
from events.operation import Operation
from events.operation_events import CallSteered
from events.own_log import own_log
from events.runner_api import give_up
from events.verdicts import GiveUp
from recovery.execution.steering import Steering
from recovery.explain import counted, duration
from recovery.joining.continuation import continued
from recovery.journal.errors import NotDurable
from recovery.journal.history import CallRecord
from recovery.journal.orders import Order
from recovery.journal.store import ANSWER_TIMEOUT, Answer, Command, Reply
from recovery.resume.handles import Resumption
from recovery.resume.repetition import Repetition, Selection
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.daemon_threads import Workers
from recovery.waiting.description import WaitingCall
from recovery.waiting.wait import WaitCommand

NEXT_PROCESS = "next process"
"""The ``Command.call`` of an order: the next process that resumes calls carries it out."""

REPLIES = 4
"""Answers that are waited for at a time, about calls to run again."""

ASKED = "asked to end: it is a plain function, and ends when it asks context.cancelled(); it is not retried"

log = own_log("recovery")


class Acts(NamedTuple):
    """What a service does besides steering calls.

    Args:
        answer: Answers a question, by its name.
        again: Runs a call again that has ended.
        probe: Ends the break of a circuit, by its operation and key; whether there was one.
        give_up: Gives up the calls that wait for a circuit; how many did.
        written: Blocks until all that was published is in the journal. Raises NotDurable.
    """

    answer: Callable[[str, str], object]
    again: Callable[[Selection], Repetition]
    probe: Callable[..., bool]
    give_up: Callable[..., int]
    written: Callable[[], object]


class CommandHandler:
    """Carries out commands on the calls that wait, or are not resumed, in this process. Safe to use from any thread.

    Args:
        waiting: The calls that wait.
        steering: Steers those that run, too.
        bus: Where the end of a call that is not resumed is published.
        resumption: What ``resume()`` found, with the quarantined calls; ``None`` before it.
        acts: What the service does besides.
    """

    def __init__(
        self,
        waiting: WaitingCalls,
        steering: Steering,
        bus: Bus,
        resumption: Callable[[], Resumption | None],
        acts: Acts,
    ) -> None:
        self._waiting = waiting
        self._steering = steering
        self._bus = bus
        self._resumption = resumption
        self._acts = acts
        self._replies = Workers("recovery-again", REPLIES)
        self._orders = Workers("recovery-orders", 1)
        self._of_parent: set[str] = set()
        self._counted = (0, 0, 0)
        self._ids: set[str] = set()

    def after_fork(self) -> None:
        """Leave the calls that wait now, and the commands for them, to the parent process."""
        self._of_parent |= {waiting.call for waiting in self._waiting.describe_all()}

    def concerns(self, call: str) -> bool:
        """Whether this process answers a command for that call: it began the call, resumed it, or left it."""
        if call in self._of_parent:
            return False
        if call == NEXT_PROCESS:
            return self._found() is not None
        is_begun_here = call.rpartition("-")[0] == self._bus.run
        return is_begun_here or call in self._waiting or call in self._resumed()

    def _resumed(self) -> set[str]:
        """The ids of the calls that ``resume()`` found, kept for the next of many questions."""
        found = self._found()
        if found is None:
            return set()
        counted = len(found.calls), len(found.left), len(found.quarantined)
        if counted != self._counted:
            records = (*found.quarantined, *found.left, *(one.record for one in found.calls))
            self._counted, self._ids = counted, {record.call for record in records}
        return self._ids

    def _found(self) -> Resumption | None:
        resumption = self._resumption()
        return resumption if resumption is not None and resumption.is_ours else None

    def carry_out(self, command: Command, secret: str = "", reply: Reply = id) -> Answer | None:
        """Carry out *command*; where that is not possible, log a warning and say why.

        None if *reply* gets the answer later: the journal, whose thread this is, must be read first.
        """
        match command.name:
            case "answer":
                return self._answered(command, secret)
            case "again":
                self._run_again(command, reply)
                return None
            case "probe" | "give up incident":
                return self._on_incident(command)
        answer = self._steered(command) or self._on_what_is_left(command) or _refused(_why_not(command))
        if not answer.is_done:
            log.warning("cannot %s call %s: %s", command.name, command.call, answer.said)
        return answer

    def _steered(self, command: Command) -> Answer | None:
        match command.name:
            case "cancel":
                done = self._steering.cancel(command.call, command.reason)
                return Answer(is_done=True, said=ASKED if done == "asked" else "cancelled") if done else None
            case "reset":
                is_done = self._steering.reset(command.call, command.reason)
                return Answer(is_done=True, said="its retries and its time begin again") if is_done else None
            case "edit":
                return self._edited(command)
            case "retry":
                steering: WaitCommand = "retry now"
            case "pause" | "unpause" | "give up":
                steering = command.name
            case _:
                return None
        wait = self._waiting.describe(command.call)
        if wait is None:
            return None
        limit = self._waiting.limit_of(command.call) if command.name == "retry" else 0.0
        if self._waiting.steer(command.call, steering, command.reason):
            return Answer(is_done=True, said=_limited(limit) if limit else _effect(command, wait))
        if limit:
            return _refused(f"{_limited(limit)}; no order shortens that")
        if command.name in ("pause", "unpause"):
            return _refused("it is paused already" if command.name == "pause" else "it is not paused")
        return None

    def _answered(self, command: Command, secret: str) -> Answer:
        try:
            self._acts.answer(command.changes["question"], secret)
        except (KeyError, TypeError, ValueError) as error:
            return _refused(f"{error}" if secret else "no answer has arrived")
        return Answer(is_done=True, said="the process that asks has it, in its memory alone")

    def _run_again(self, command: Command, reply: Reply) -> None:
        is_order = isinstance(command, Order)
        repetition = self._acts.again(Selection(call=f"{command.changes.get('call')}", is_new=is_order))
        found = self._found()
        if is_order:
            if found is not None:
                found.ordered.append(repetition)
            self._orders.add([partial(self._answer_order, repetition, reply)])
            return

        def tell() -> None:
            if not repetition.loaded.wait(ANSWER_TIMEOUT):
                reply(_refused("the journal has not said yet how it stands"))
            elif repetition.calls:
                reply(Answer(is_done=True, said="it runs again, as a new call with its arguments"))
            else:
                reply(_refused(next(iter(repetition.refused.values()))))

        self._replies.add([tell])

    def _answer_order(self, repetition: Repetition, reply: Reply) -> None:
        """Answer an order to run a call again, once that has begun and is written, or cannot be done here."""
        repetition.loaded.wait()
        for call in repetition.calls:
            call.begun.wait()
            if not call.call:
                reply(_refused(f"{call.error}"))
                return
        refused = [why for former, why in repetition.refused.items() if former not in repetition.needless]
        if refused:
            reply(_refused(refused[0]))
            return
        with suppress(NotDurable):  # then the next process finds out whether it has begun
            self._acts.written()
            reply(Answer(is_done=True, said=""))

    def _on_incident(self, command: Command) -> Answer:
        operation, key = (f"{command.changes.get(name, '')}" for name in ("operation", "key"))
        if command.name == "probe":
            if self._acts.probe(operation, key=key):
                return Answer(is_done=True, said="the next call that waits for it probes now")
            if isinstance(command, Order):
                return Answer(is_done=True, said="it has ended since")
            return _refused("it has no break to end: a probe is under way, or it is closed, or forced open")
        many = self._acts.give_up(operation, command.reason, key=key)
        what = f"given up: {counted(many, 'call')} that waited for it"
        return Answer(is_done=True, said=what) if many else _refused("no call waits for it here")

    def _edited(self, command: Command) -> Answer | None:
        try:
            is_done = self._steering.edit(command.call, command.changes, command.reason)
        except (TypeError, ValueError) as error:
            return _refused(str(error))
        changed = ", ".join(f"{name}={value}" for name, value in command.changes.items())
        return Answer(is_done=True, said=f"from its next failure on it decides with {changed}") if is_done else None

    def _on_what_is_left(self, command: Command) -> Answer | None:
        found = self._found()
        is_quarantined = found is not None and any(one.call == command.call for one in found.quarantined)
        if found is None:
            return None
        if command.name == "retry" and is_quarantined:
            try:
                is_resumed = found.retry(command.call) in found.calls
            except (LookupError, RecoveryError) as error:
                return _refused(str(error))
            what_now = ", and is resumed now" if is_resumed else "; the next call with its idempotency key runs it"
            return Answer(is_done=True, said=f"it leaves the quarantine{what_now}")
        if command.name == "cancel" and (record := found.drop(command.call)) is not None:
            cancel_left(record, self._bus)
            return Answer(is_done=True, said="cancelled: it is not resumed any more")
        if command.name == "give up" and (record := found.drop(command.call)) is not None:
            give_up_left(record, self._bus, command.reason)
            return Answer(is_done=True, said="given up: it is not resumed any more")
        if is_quarantined:
            return _refused("it is quarantined, and can only be retried or given up")
        if any(one.call == command.call for one in found.left):
            return _refused("this process does not resume it, and can only give it up")
        return None


def to_process(run: str) -> str:
    """The ``Command.call`` of a command to the process of *run* itself: the id of no call."""
    return f"{run}-0"


def give_up_left(record: CallRecord, bus: Bus, reason: str) -> None:
    """Publish on *bus* that the call of *record*, which no process runs, is given up by hand."""
    operation = Operation(record.operation, bus, key=record.key)
    give_up(continued(record, operation), GiveUp(f"given up by hand: {reason}" if reason else "given up by hand"))


def cancel_left(record: CallRecord, bus: Bus) -> None:
    """Publish on *bus* that the call of *record*, which no process runs, is cancelled."""
    continued(record, Operation(record.operation, bus, key=record.key)).cancel()


def order_left(record: CallRecord, bus: Bus, command: str, reason: str) -> None:
    """Publish on *bus* that the process which resumes the call of *record* is to begin with *command*."""
    call = continued(record, Operation(record.operation, bus, key=record.key)).call
    call.publish(CallSteered, record.attempt, command=command, reason=reason)


def _why_not(command: Command) -> str:
    if command.name in ("cancel", "reset", "edit"):
        return "it neither waits nor is known to run (see Calls.running)"
    return "it is not waiting"


def _refused(why: str) -> Answer:
    return Answer(is_done=False, said=why)


def _limited(left: float) -> str:
    return f"it waits for at least {duration(left)} more, as the server has asked"


def _effect(command: Command, wait: WaitingCall) -> str:
    """What *command* has done to *wait*, which was described before."""
    waited = f"; it waited for: {', '.join(wait.until)}" if wait.until else ""
    match command.name:
        case "retry":
            return f"attempt {wait.attempt} starts now{waited}"
        case "pause":
            return "paused"
        case "unpause":
            return f"goes on waiting, for {wait.left:.1f} s{waited.replace('waited', 'waits')}"
    return "given up: its caller gets its last error"
