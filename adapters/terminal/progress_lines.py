"""A launch in lines, where the output is no terminal: what begins, waits, fails and ends, and what is going on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from adapters.comfyui.record import PromptRecord
from adapters.launcher.checkpoint_words import note_words, saved_note
from adapters.terminal.screen import detail, named, progress, running, wait
from adapters.terminal.view import LaunchView, Line
from events.circuit_events import CircuitClosed, CircuitHalfOpened
from events.event import CallEvent, Event
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    OperationInterrupted,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
)
from recovery.explain import explain
from recovery.redact import brief, printable
from recovery.subscribers.log import describe

HEARTBEAT = 5.0
"""Seconds between two lines about what is going on, where bytes arrive, or prompts go on."""

QUIET = 30.0
"""Seconds between two such lines where nothing changes."""

GATHER = 0.5
"""Seconds that a line waits for the same line about other operations."""

MOST_NAMED = 8
"""Operations that such a line names; more are counted."""


class ProgressLines:
    """Says each step of the launch of *view* in a line, the same step of several operations in one.

    Subscribe ``feed`` after the view's own, and enter ``heartbeat``: lines are held back for up to half a second.
    """

    def __init__(self, view: LaunchView, say: Callable[[str], object]) -> None:
        self._view = view
        self._say = say
        self._lock = threading.Lock()
        self._begun: tuple[str, str] | None = None
        self._gathered: tuple[str, list[str]] = ("", [])
        self._said: tuple[float, Counter[str]] | None = None

    def feed(self, event: Event) -> None:
        """Say what *event* is about, if it is worth a line."""
        name = self._view.name_of(event)
        text = _of_others(event) if name is None else _of_the_plan(event, self._view.lines.get(name))
        if not text:
            return
        text = brief(text)  # without the name: "hf-token: begins" would look like a secret
        with self._lock:
            if isinstance(event, Parked) and event.category is None:
                self._begun = None  # an incident, or a limit, holds it: it has not begun
            self._put_begun()
            if name is not None and isinstance(event, OperationStarted) and event.attempt > 1:
                self._begun = (text, name)
            else:
                self._put(text, name)

    def flush(self) -> None:
        """Say the lines that were held back."""
        with self._lock:
            self._put_begun()
            self._put("", None)

    def _put_begun(self) -> None:
        if self._begun is not None:
            self._put(*self._begun)
            self._begun = None

    def _put(self, text: str, name: str | None) -> None:
        gathered, names = self._gathered
        if name is not None and text == gathered:
            names.append(name)
            return
        if names:
            self._say(f"{named(names)}: {gathered}")
        self._gathered = (text, []) if name is None else (text, [name])
        if name is None and text:
            self._say(text)

    @contextmanager
    def heartbeat(self, interval: float = GATHER) -> Iterator[None]:
        """Look every *interval* seconds, from a thread, at what there is to say, while this is entered."""
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(interval):
                self.flush()
                if (line := self.beat(monotonic())) is not None:
                    self._say(printable(line))  # the view is redacted

        thread = threading.Thread(target=look, name="recovery-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            self.flush()

    def beat(self, now: float) -> str | None:
        """What is going on at *now*, if the latest such line is old enough. The first call says nothing."""
        there = Counter(
            {
                line.name: line.offset + int((line.share or 0.0) * 1000)
                for line in self._view.lines.values()
                if line.state == "running"
            }
        )
        at, was_there = self._said or (now, Counter())
        is_due = now - at >= (QUIET if there <= was_there else HEARTBEAT)
        if is_due or self._said is None:
            self._said = now, there
        return self.summary(now) if is_due else None

    def summary(self, now: float) -> str:
        """What is going on at *now*, on the clock of the events, in one line."""
        lines = list(self._view.lines.values())
        states = Counter(line.state for line in lines)
        said = [f"{states['done']} of {len(lines)} done"]
        said += [f"{states[state]} {state}" for state in ("failed", "skipped", "cancelled") if states[state]]
        said = [", ".join(said)]
        said += filter(None, (incident.line(now) for incident in self._view.incidents.values() if incident.is_open))
        going_on = [(line, self._stands(line, now)) for line in lines]
        named = [(line, words) for line, words in going_on if words]
        named.sort(key=lambda one: not one[0].samples)  # what receives bytes comes first
        said += [f"{line.name}: {words}" for line, words in named[:MOST_NAMED]]
        return "; ".join([*said, *([f"{len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else [])])

    def _stands(self, line: Line, now: float) -> str:
        """How *line* stands; "" for what has not begun, is over, or waits for an incident, which is one thing."""
        match line.state:
            case "running":
                return progress(line, now) or note_words(line.note) or running(line, now) or "running"
            case "waiting" if not line.incident:
                return wait(line, now)
            case "paused" if not line.incident:
                return "paused"
        return ""


def _of_the_plan(event: Event, line: Line | None) -> str:
    """What *event*, about the operation of *line*, says in a line; "" for what is not worth one."""
    match event:
        case OperationStarted(attempt=attempt):
            return "begins" if attempt == 1 else f"attempt {attempt} begins"
        case OperationSucceeded():
            far = detail(line, event.at, set()) if line is not None else ""
            return f"done, {far}" if far else "done"
        case CheckpointSaved(data=data):
            note = saved_note(data)  # how far a prompt is changes every second: the heartbeat says it
            return "" if isinstance(note, PromptRecord) else note_words(note)
        case FailureClassified() | OperationRecovered() | OperationInterrupted():
            return ""  # the outcome follows, the heartbeat says how far it is, and the last line that it was stopped
        case CallEvent():
            explained = explain(event)
            cause, step = explained.cause, explained.step
            if step and line is not None and line.incident:  # its own line says what happens next, and when
                is_over = line.state == "failed"
                cause, step = ("", line.why) if is_over else (cause, f"waits for incident {line.incident}")
            return "; ".join(filter(None, (cause, step))) if step else ""
    return ""


def _of_others(event: Event) -> str:
    """What *event*, about no operation of the plan, says in a line; "" for what is not worth one."""
    match event:
        case OperationStarted() | OperationSucceeded() | OperationInterrupted() | CircuitHalfOpened() | CircuitClosed():
            return ""  # the attempt that probes has begun, and the end of the incident says more
    return describe(event) or ""
