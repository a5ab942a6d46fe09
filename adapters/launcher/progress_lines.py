"""A launch in lines, where the output is no terminal: what begins, waits, fails and ends, and what is going on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from adapters.launcher.screen import detail, progress, running, wait
from adapters.launcher.view import LaunchView, Line
from events.circuit_events import CircuitClosed, CircuitHalfOpened
from events.event import CallEvent, Event
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
)
from recovery.explain import explain
from recovery.redact import brief, printable
from recovery.subscribers.log import describe

HEARTBEAT = 5.0
"""Seconds between two lines about what is going on, where bytes arrive."""

QUIET = 30.0
"""Seconds between two such lines where nothing changes."""

MOST_NAMED = 8
"""Operations that such a line names; more are counted."""


class ProgressLines:
    """Says each step of the launch of *view* in a line. Subscribe ``feed`` after the view's own."""

    def __init__(self, view: LaunchView, say: Callable[[str], object]) -> None:
        self._view = view
        self._say = say
        self._said: tuple[float, Counter[str]] | None = None

    def feed(self, event: Event) -> None:
        """Say what *event* is about, if it is worth a line."""
        name = self._view.name_of(event)
        match event:
            case OperationStarted() | OperationSucceeded() if name is None:
                return
            case OperationStarted(attempt=attempt):
                line = "begins" if attempt == 1 else f"attempt {attempt} begins"
            case OperationSucceeded():
                far = detail(self._view.lines[name], event.at, set()) if name in self._view.lines else ""
                line = f"done, {far}" if far else "done"
            case FailureClassified() | CheckpointSaved():
                return  # the outcome follows, and the heartbeat says how far it is
            case OperationRecovered() if name is not None:
                return  # its success follows
            case CircuitHalfOpened() | CircuitClosed():
                return  # the attempt that probes has begun, and the end of the incident says more
            case CallEvent() if name is not None:
                explained = explain(event)
                cause, step, stands = explained.cause, explained.step, self._view.lines.get(name)
                if step and stands is not None and stands.incident:  # its own line says what happens next, and when
                    is_over = stands.state == "failed"
                    cause, step = ("", stands.why) if is_over else (cause, f"waits for incident {stands.incident}")
                line = "; ".join(filter(None, (cause, step))) if step else ""
            case _:
                line = describe(event) or ""
        if line:
            line = brief(line)  # without the name: "hf-token: begins" would look like a secret
            self._say(line if name is None else f"{printable(name)}: {line}")

    @contextmanager
    def heartbeat(self, interval: float = HEARTBEAT) -> Iterator[None]:
        """Say every *interval* seconds what is going on, if that changed, from a thread, while this is entered."""
        is_over = threading.Event()

        def beat() -> None:
            while not is_over.wait(interval):
                if (line := self.beat(monotonic())) is not None:
                    self._say(printable(line))  # the view is redacted

        thread = threading.Thread(target=beat, name="recovery-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def beat(self, now: float) -> str | None:
        """What is going on at *now*, if bytes arrived since the last such line, or if that is QUIET seconds ago."""
        there = Counter({line.name: line.offset for line in self._view.lines.values() if line.state == "running"})
        if self._said is not None and now - self._said[0] < QUIET and there <= self._said[1]:
            return None
        self._said = now, there
        return self.summary(now)

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
                return progress(line, now) or running(line, now) or "running"
            case "waiting" if not line.incident:
                return wait(line, now)
            case "paused" if not line.incident:
                return "paused"
        return ""
