"""Measures what recovery's wrapper costs on this machine, with a function that does nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec

from events.bus import Bus
from events.event import Event
from events.kinds import ON_REQUEST
from events.operation import Operation
from recovery.execution.decorator import wrap
from recovery.execution.runner import Runner
from recovery.journal.queue import WriteQueue
from recovery.monitoring.overhead import Estimate, median
from recovery.operations import Definition
from recovery.settings import OperationConfig
from recovery.waiting.calls import WaitingCalls

ROUNDS = 25
CALLS_PER_ROUND = 40


class Calibration(msgspec.Struct, frozen=True):
    """What the *wrapper* costs a healthy call, and what the *timing* of a sample adds to it, in seconds."""

    wrapper: Estimate
    timing: Estimate


class Calibrations:
    """One calibration for each kind of wrapper, made at first use."""

    def __init__(self) -> None:
        self._known: dict[tuple[bool, ...], Calibration] = {}

    def of(self, config: OperationConfig) -> Calibration:
        """The calibration for operations with this *config*."""
        timeouts = (config.policy.attempt_timeout is not None, config.policy.max_elapsed is not None)
        shape = (config.has_context, config.journalled, config.resumable, config.key is not None, *timeouts)
        if shape not in self._known:
            self._known[shape] = calibrate(config)
        return self._known[shape]


def calibrate(config: OperationConfig) -> Calibration:
    """Measure the wrapper that ``recoverable`` chooses for *config*; takes a few milliseconds.

    The figure is the least that a call pays: a write queue stands in for the journal, and what only async functions
    have (a timeout) costs nothing here.
    """
    config = OperationConfig(
        policy=config.policy,
        breaker=None,
        durability="journal" if config.journalled else config.durability,
        resumable=config.resumable,
        key=None if config.key is None else str,
    )
    bus = Bus()
    operation = Operation("calibration", bus)
    waiting = WaitingCalls(bus.clock, random.random)
    recoverable = wrap(Runner(_do_nothing, Definition(config, operation), waiting, lambda: None))
    if config.journalled:
        queue = WriteQueue()

        def put(event: Event) -> None:
            queue.put(event)

        bus.subscribe(ON_REQUEST, put)
    added = []
    for _ in range(ROUNDS):
        bare = _time_round(_do_nothing)
        added.append((_time_round(recoverable) - bare) / CALLS_PER_ROUND)
    times: list[float] = []
    with bus.subscribe(ON_REQUEST, lambda event: times.append(event.at)):
        for _ in range(ROUNDS * 4):
            recoverable()
    taken = [ended - began for began, ended in zip(times[::2], times[1::2], strict=True)]
    return Calibration(median(added), median(taken))


def _do_nothing() -> None:
    return None


def _time_round(function: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS_PER_ROUND):
        function()
    return time.perf_counter() - began
