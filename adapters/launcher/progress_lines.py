"""A launch in lines, where the output is no terminal: what begins, waits, fails and ends, and what is going on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from adapters.launcher.screen import progress, wait
from adapters.launcher.view import LaunchView
from events.circuit_events import CircuitClosed, CircuitHalfOpened
from events.event import CallEvent, Event
from events.operation_events import CheckpointSaved, FailureClassified, OperationStarted, OperationSucceeded
from recovery.explain import explain
from recovery.redact import brief, printable
from recovery.subscribers.log import describe

HEARTBEAT = 30.0
"""Seconds between two lines about what is going on."""


class ProgressLines:
    """Says each step of the launch of *view* in a line. Subscribe ``feed`` after the view's own."""

    def __init__(self, view: LaunchView, say: Callable[[str], object]) -> None:
        self._view = view
        self._say = say

    def feed(self, event: Event) -> None:
        """Say what *event* is about, if it is worth a line."""
        name = self._view.name_of(event)
        match event:
            case OperationStarted() | OperationSucceeded() if name is None:
                return
            case OperationStarted(attempt=attempt):
                line = "begins" if attempt == 1 else f"attempt {attempt} begins"
            case OperationSucceeded():
                far = progress(self._view.lines[name]) if name in self._view.lines else ""
                line = f"done, {far}" if far else "done"
            case FailureClassified() | CheckpointSaved():
                return  # the outcome follows, and the heartbeat says how far it is
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
        """Say every *interval* seconds what is going on, from a thread, while this is entered."""
        is_over = threading.Event()

        def beat() -> None:
            while not is_over.wait(interval):
                self._say(printable(self.summary(monotonic())))  # the view is redacted

        thread = threading.Thread(target=beat, name="recovery-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def summary(self, now: float) -> str:
        """What is going on at *now*, on the clock of the events, in one line."""
        lines = list(self._view.lines.values())
        over = sum(line.state in ("done", "failed", "skipped", "cancelled") for line in lines)
        going_on = [f"still going on, {over} of {len(lines)} over"]
        going_on += filter(None, (incident.line(now) for incident in self._view.incidents.values() if incident.is_open))
        for line in lines:
            match line.state:
                case "waiting" | "paused" if line.incident:
                    pass  # its incident is one thing
                case "running":
                    going_on.append(f"{line.name}: {progress(line) or 'running'}")
                case "waiting":
                    going_on.append(f"{line.name}: {wait(line, now)}")
                case "paused":
                    going_on.append(f"{line.name}: paused")
        return "; ".join(going_on)
