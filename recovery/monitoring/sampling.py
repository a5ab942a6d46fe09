"""Measures what recovery costs here: samples calls of operations in use, calibrates on a function that does nothing.

An operation is listened to (``Operation.is_observed``) only while a sample of it is due. Samples are due after
somebody has
looked (``Sampler.offer``), and there is one for 32 calls since the last look at the most: on average a call pays
a 32nd of what timing it costs.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from events.bus import Bus
from events.event import CallEvent, Event
from events.operation import Operation
from events.operation_events import OperationStarted, OperationSucceeded
from events.subscription import Subscription
from recovery.execution.decorator import wrap
from recovery.execution.runner import Runner
from recovery.journal.queue import WriteQueue
from recovery.monitoring.overhead import Figure, Samples, middle
from recovery.operations import Definition, OperationKey
from recovery.settings import OperationConfig
from recovery.waiting.calls import WaitingCalls

ONE_IN = 32
"""A sample is due for so many calls."""

MOST_DUE = 32
"""So many samples of one operation are due at a time."""

MOST_SEATS = 8
"""Of so many operations at a time: taking a seat has the bus make its ready tuples anew."""

ROUNDS = 25
CALLS = 40
"""A calibration takes so many rounds of so many calls: a few milliseconds."""


class Sampler:
    """Times calls between their start and their success, for a part at a time. Safe to use from any thread."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.RLock()
        self._samples: dict[OperationKey, Samples] = {}
        self._due: dict[OperationKey, _Due] = {}
        self._turn: list[OperationKey] = []

    def offer(self, calls: Mapping[OperationKey, int]) -> None:
        """Have samples taken of parts that have made so many *calls* since the last offer."""
        with self._lock:
            busy = [part for part, number in calls.items() if number >= ONE_IN and part not in self._due]
            # Those that were sampled least are the first.
            busy.sort(key=lambda part: self._samples[part].taken if part in self._samples else 0)
            for part in busy[: MOST_SEATS - len(self._due)]:
                samples = self._samples.setdefault(part, Samples())
                due = self._due[part] = _Due(min(calls[part] // ONE_IN, MOST_DUE), samples, part, self._finish)
                operation, key = part
                kinds = (OperationStarted, OperationSucceeded)
                due.subscription = self._bus.subscribe(
                    kinds, due.on_event, operation=operation, key=key or None, essential=True
                )

    def figure(self, part: OperationKey) -> Figure | None:
        """How long a call of *part* took, the timing of it included; ``None`` until two calls were sampled."""
        with self._lock:
            samples = self._samples.get(part)
            return None if samples is None or samples.taken < 2 else samples.figure

    def close(self) -> None:
        """Take no more samples."""
        with self._lock:
            for part in list(self._due):
                self._finish(part)

    def _finish(self, part: OperationKey) -> None:
        with self._lock:
            due = self._due.pop(part, None)
            if due is not None and due.subscription is not None:
                due.subscription.close()


class _Due:
    """The samples of one part that are due now: *number* of them."""

    def __init__(
        self, number: int, samples: Samples, part: OperationKey, finish: Callable[[OperationKey], object]
    ) -> None:
        self.subscription: Subscription | None = None
        self._left = number
        self._samples = samples
        self._part = part
        self._finish = finish
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}

    def on_event(self, event: CallEvent) -> None:
        """Time the call that *event* is about, if it succeeds at its first attempt."""
        if event.key != self._part[1]:
            return
        if isinstance(event, OperationStarted):
            if event.attempt == 1 and len(self._began) < 2 * MOST_DUE:  # of calls that never end some are forgotten
                self._began[event.call] = event.at
            return
        began = self._began.pop(event.call, None)
        if began is None or event.attempt > 1:
            return
        with self._lock:
            self._samples.add(event.at - began)
            self._left -= 1
            is_over = self._left <= 0
        if is_over:
            self._finish(self._part)


class Calibration(msgspec.Struct, frozen=True):
    """What a healthy call pays for its *wrapper*, and what the *timing* of a sample adds to it; seconds."""

    wrapper: Figure
    timing: Figure


class Calibrations:
    """Calibrations by what a plan asks of a wrapper, made when they are first wanted."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Calibration] = {}

    def of(self, config: OperationConfig) -> Calibration:
        """The calibration for operations with such a *config*."""
        limits = (config.policy.attempt_timeout, config.policy.max_elapsed)
        flags = [limit is not None for limit in limits]
        shape = (config.has_context, config.journalled, config.resumable, config.key is not None, *flags)
        known = self._known.get(shape)
        if known is None:
            known = self._known[shape] = calibrate(config)
        return known


def calibrate(config: OperationConfig) -> Calibration:
    """Measure on this machine, now, with a plain function that does nothing; a few milliseconds.

    The wrapper is the one that ``recoverable`` chooses for *config*. A journal is stood in for by its queue, and what
    only async functions have (a timeout) costs nothing here: the figure is the least that a call pays.
    """
    durability = "journal" if config.journalled else config.durability
    key = None if config.key is None else str
    config = msgspec.structs.replace(
        config,
        key=key,
        durability=durability,
        retry_on_result=None,
        reconcile=None,
        idempotency_key=None,
        remember=None,
    )
    bus = Bus()
    operation = Operation("calibration", bus)
    waiting = WaitingCalls(bus.clock, random.random)
    recoverable = wrap(Runner(_nothing, Definition(config, operation), waiting, lambda: None))
    if config.journalled:
        _journal(bus)
    added = []
    for _ in range(ROUNDS):
        bare = _time(_nothing)
        added.append((_time(recoverable) - bare) / CALLS)
    times: list[float] = []
    with bus.subscribe((OperationStarted, OperationSucceeded), lambda event: times.append(event.at)):
        for _ in range(ROUNDS * 4):
            recoverable()
    taken = [ended - began for began, ended in zip(times[::2], times[1::2], strict=True)]
    return Calibration(middle(added), middle(taken))


def _journal(bus: Bus) -> None:
    queue = WriteQueue()

    def record(event: Event) -> None:
        queue.put(event)

    bus.subscribe((OperationStarted, OperationSucceeded), record)


def _nothing() -> None:
    return None


def _time(function: Callable[[], object]) -> float:
    calls = range(CALLS)
    began = time.perf_counter()
    for _ in calls:
        function()
    return time.perf_counter() - began
