"""A service of this process as the source of the page. What it costs, it costs while a page is open."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from adapters.journals.incidents import IncidentLine
from adapters.journals.next_step import Action, next_step
from adapters.journals.pauses import pauses
from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.journals.steering import steer
from adapters.launcher.progress import Samples, rate, with_sample
from adapters.web import cards
from adapters.web.headline import headline
from adapters.web.live_calls import OF_THE_PAGE, LiveCalls, ended, succeeded
from adapters.web.source import BY_THE_PAGE, ENDED, Done, IncidentAction, done_in
from adapters.web.state import MOST_CALLS, CallLine, PageState
from events.errors import RecoveryError
from events.event import CallEvent
from events.names import display_name
from events.repeat_events import OperationRepeated
from recovery.explain import counted
from recovery.journal.store import Command
from recovery.policies.circuit_states import Closed, Forced, Open
from recovery.questions import cause_of
from recovery.redact import brief, printable
from recovery.service import Recovery
from recovery.subscribers.incidents import FORCED_OPEN

if TYPE_CHECKING:
    from adapters.web.measured import Measured
    from recovery.monitoring.monitor import Monitor

TIMEOUT = 5.0
"""Seconds to wait for another process of the journal, or for the journal."""

SAID = {
    "retry": "its next attempt begins now",
    "pause": "its clock is stopped",
    "unpause": "it waits for the rest of its delay",
    "give up": "it is given up: its caller gets its last error",
    "cancelled": "cancelled",
    "asked": "asked to end: it is a plain function, and ends when it asks context.cancelled()",
}
"""What happens now, by what was done."""

PROBED = "the next call that waits for it tries now; the others wait for its answer"
NOT_PROBED = "nothing is changed: a call tries already, or the circuit is forced open"

NOT_LISTED = (
    "A call of an operation that is not resumable, and has neither an idempotency key nor a time limit, appears here "
    "only once it fails."
)
NO_JOURNAL = "This program keeps no journal: what ended before the page was opened is not known."
NO_MONITOR = "The service is not monitored: there are no alerts and no charts."


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A *line*, with the *status* and the next *probe* that it was made of."""

    line: CallLine
    status: CallStatus
    probe: float | None


MOST_UNKNOWN = 20
"""Calls in one look that the journal has to read from its file: each is a query for the journal's thread."""


class ServiceSource:
    """Shows and steers the calls of *service*. Its subscription gets the ends of calls that did not succeed.

    Args:
        service: The service.
        monitor: Its monitor, for alerts and charts; None for none.
        name: What the page calls it.
    """

    def __init__(self, service: Recovery, monitor: Monitor | None = None, name: str = "this program") -> None:
        self._service = service
        self._measured: Measured | None = None
        if monitor is not None:
            from adapters.web.measured import Measured  # here: it needs the extra of the monitor

            self._measured = Measured(service, monitor)
        self._name = name
        self._pause = pauses()
        self._live = LiveCalls(self._pause)
        self._known: dict[str, CallStatus] = {}
        self._over: dict[str, CallStatus] = {}
        self._lines: dict[str, _Line] = {}
        self._samples: dict[str, Samples] = {}
        self._incidents: dict[str, IncidentLine] = {}
        self._has_read_journal = False
        self._events: deque[CallEvent] = deque(maxlen=MOST_CALLS)
        service.bus.subscribe(OF_THE_PAGE, self._events.append, essential=True)

    @property
    def _journal(self) -> Path | None:
        """The file of the service's journal."""
        journal = self._service.journal
        return None if journal is None else getattr(journal.store, "path", None)

    def read(self) -> PageState:
        """The service as it stands."""
        service, now, monotonic = self._service, time.time(), self._service.bus.clock()
        waiting = service.calls.each_waiting(self._live.waiting)
        live = self._live.update(waiting, service.calls.running(), now, monotonic)
        self._take_ends(live, now, now - monotonic)
        incidents = self._open_incidents(now)
        status = JournalStatus(
            path=self._name,
            is_being_written=True,
            calls=(*live.values(), *self._over.values()),
            circuits={display_name(*key): _state_of(one) for key, one in service.circuits.states().items()},
            unreadable=0,
            incidents=incidents,
        )
        shown, more = cards.listed(status.calls, {})
        lines = {line.call: line for call in shown for line in (self._line(call, status, now),)}
        self._lines = {call.call: self._lines[call.call] for call in shown}
        self._samples = {call: samples for call, samples in self._samples.items() if call in live}
        asks = any(cause.startswith(cause_of("")) for call in self._live.waiting.values() for cause in call.until)
        asked = tuple(
            cards.question_card(
                *(one.name, one.kind, one.text, one.link, one.reason, one.choices),
                [lines[call].name if call in lines else call for call in one.calls],
            )
            for one in (service.calls.questions() if asks else ())  # which describes every call once more
        )
        open_ = cards.incident_cards(incidents)
        return PageState(
            at=now,
            headline=headline(lines.values(), more=more, incidents=open_, questions=asked),
            source=self._name,
            is_live=True,
            notes=self._notes(),
            calls=lines,
            more=more,
            incidents=open_,
            circuits=cards.circuits_of(status.circuits),
            questions=asked,
            alerts=() if self._measured is None else self._measured.alerts(now - monotonic),
            charts=() if self._measured is None else self._measured.charts(),
        )

    def _take_ends(self, live: dict[str, CallStatus], now: float, offset: float) -> None:
        """Note the calls that have ended since the latest look, and at the first one what the journal has."""
        if not self._has_read_journal:
            self._has_read_journal = True
            self._over.update(self._in_journal())
        while self._events:
            self._pause()
            event = self._events.popleft()
            if isinstance(event, OperationRepeated):
                if event.by and (former := self._over.get(event.call)) is not None:
                    self._over[event.call] = msgspec.structs.replace(former, by=event.by)
                continue
            record = self._service.calls.find(event.call, timeout=0.0)
            self._over[event.call] = ended(event, record, event.at + offset)
        unknown = 0
        for call in self._known.keys() - live.keys() - self._over.keys():
            self._pause()
            record = None if unknown >= MOST_UNKNOWN else self._service.calls.find(call, timeout=0.0)
            unknown += record is None
            if record is not None and record.state == "succeeded":
                self._over[call] = succeeded(self._known[call], now)
            elif record is not None and not record.is_over:
                live[call] = self._known[call]  # between two attempts
        for call in live.keys() & self._over.keys():
            del self._over[call]  # it was left, or quarantined, and goes on
        for call in list(self._over)[: max(len(self._over) - MOST_CALLS, 0)]:
            del self._over[call]
        self._known = live

    def _in_journal(self) -> dict[str, CallStatus]:
        """The calls that the journal has, those of earlier processes included."""
        if self._journal is None:
            return {}
        own = f"{self._service.bus.run}-"
        try:
            # Its own calls that live are known better here, and have the most rows.
            status = anyio.run(partial(read_status, self._journal, not_left=(own,), pause=self._pause))
        except (RecoveryError, OSError):  # it may not be there yet
            return {}
        return {call.call: call for call in status.calls if call.is_over or not call.call.startswith(own)}

    def _line(self, call: CallStatus, status: JournalStatus, now: float) -> CallLine:
        """The line of *call*: the former one if nothing has changed."""
        self._pause()
        is_held = bool(call.waits_for) and call.key is not None
        incident = self._incidents.get(display_name(call.operation, call.key)) if is_held else None
        probe = None if incident is None or incident.is_probed else incident.next_probe
        known = self._lines.get(call.call)
        if known is not None and known.status is call and known.probe == probe:
            return known.line
        speed = None
        if call.transfer is not None and call.state == "running":
            samples = with_sample(self._samples.get(call.call, ()), now, call.transfer.offset)
            self._samples[call.call], speed = samples, rate(samples, now)
        line = cards.call_line(call, next_step(call, status, now), speed)
        self._lines[call.call] = _Line(line, call, probe)
        return line

    def _open_incidents(self, now: float) -> tuple[IncidentLine, ...]:
        lines = {}
        for one in self._service.incidents.open():
            name = display_name(one.operation, one.key)
            line = IncidentLine(
                operation=one.operation,
                key=one.key,
                is_open=True,
                cause=one.cause,
                category=one.category,
                since=now - one.lasted,
                next_probe=None if one.next_probe is None else now + one.next_probe,
                is_probed=one.next_probe is None and one.cause != FORCED_OPEN,
                waiting=set(one.waiting),
                gave_up=one.gave_up,
            )
            former = self._incidents.get(name)
            if former is not None:
                line.since = former.since if abs(line.since - former.since) < 0.5 else line.since
                if line.next_probe and former.next_probe and abs(line.next_probe - former.next_probe) < 0.5:
                    line.next_probe = former.next_probe
            lines[name] = line
        self._incidents = lines
        return tuple(lines.values())

    def _notes(self) -> tuple[str, ...]:
        journal = self._service.journal
        notes = [NOT_LISTED]
        if journal is None:
            notes.append(NO_JOURNAL)
        elif journal.reason is not None:
            notes.append("The journal cannot be written at the moment: what happens now is lost if the program ends.")
        if self._measured is None:
            notes.append(NO_MONITOR)
        return tuple(notes)

    def act(self, action: Action, call: str) -> Done:
        """Do *action* with a call, here or in the journal. Raises RecoveryError, OSError, LookupError."""
        calls, reason = self._service.calls, BY_THE_PAGE
        match action:
            case "retry":
                is_done = calls.retry_now(call, reason)
            case "pause":
                is_done = calls.pause(call, reason)
            case "unpause":
                is_done = calls.unpause(call, reason)
            case "give up":
                is_done = calls.give_up(call, reason)
            case "cancel":
                how = calls.cancel(call, reason)
                return Done(is_done=True, said=SAID[how]) if how else self._by_journal(action, call)
            case "again":
                return self._again(call)
        return Done(is_done=True, said=SAID[action]) if is_done else self._by_journal(action, call)

    def _by_journal(self, action: Action, call: str) -> Done:
        if self._journal is None or call in self._known:
            status = self._known.get(call) or self._over.get(call)
            why = "no such call is known" if status is None else f"it is {status.state}"
            return Done(is_done=False, said=f"nothing is changed: {why}")
        steered = steer(self._journal, Command(action, call, BY_THE_PAGE), timeout=TIMEOUT, by_id=True)
        return done_in(self._journal, steered.said, is_done=steered.is_done or steered.waits)

    def _again(self, call: str) -> Done:
        found = self._service.again(call)
        if not found.loaded.wait(TIMEOUT):
            return Done(is_done=False, said=f"the journal has not answered in {TIMEOUT:g} s")
        if call in found.refused:
            return Done(is_done=False, said=f"it is not run again: {found.refused[call]}")
        return Done(is_done=True, said="it runs again, as a new call, with the arguments from the journal")

    def steer_incident(self, action: IncidentAction, incident: str) -> Done:
        """Do *action* with an incident of this process. Raises LookupError if it is not open."""
        incidents = self._service.incidents
        for one in incidents.open():
            if brief(display_name(one.operation, one.key)) == incident:
                if action == "probe":
                    is_done = incidents.retry_now(one)
                    return Done(is_done=is_done, said=PROBED if is_done else NOT_PROBED)
                number = incidents.give_up(one, BY_THE_PAGE)
                said = f"given up: {counted(number, 'call')} that waited for it" if number else "no call waits for it"
                return Done(is_done=number > 0, said=said)
        raise LookupError(ENDED)

    def answer(self, question: str, value: bool | str) -> Done:
        """Answer a question that calls wait for. Raises LookupError for any other, TypeError or ValueError."""
        for one in self._service.calls.questions():
            if printable(one.name) == question:
                self._service.calls.answer(one.name, cards.chosen(value, one.choices))
                return Done(is_done=True, said="the calls that wait for it go on")
        raise LookupError("no call waits for an answer to this question any more")

    def metrics(self, accept: str) -> tuple[str, bytes] | None:
        """The content type and the text of the metrics; None without a monitor."""
        return None if self._measured is None else self._measured.metrics(accept)


def _state_of(circuit: object) -> str:
    match circuit:
        case Forced(mode):
            return f"forced {mode}"
        case Closed():
            return "closed"
        case Open():
            return "open"
    return "half-open"
