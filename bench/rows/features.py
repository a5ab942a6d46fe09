"""What each feature costs by itself: nanoseconds on success, microseconds on failure, over a service without any.

On success a feature should cost nothing beyond the wrapper. Nothing cannot be measured, only less than the resolution:
between two services that are set up alike the medians differ by a few nanoseconds, and that is the limit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from bench.measure import Effort, differences, interleave, plain, spread
from bench.monitoring import watch
from bench.row import Row, most
from bench.workloads import fails_first, journalled, settle, work
from recovery import BreakerPolicy, Recovery

BARE: dict[str, Any] = {"breaker": None, "enable_classification": False}
RESOLUTION = 5.0
"""Nanoseconds that cannot be told from nothing."""
BEFORE = {
    "persistence": "708 %",
    "classification": "15 %",
    "logging": "10 %",
    "breaker": "5 %",
}


@contextmanager
def services() -> Iterator[dict[str, Recovery]]:
    """A service without any feature (twice, to see the resolution), and one with each."""
    with ExitStack() as stack:
        found = {
            "wrapper": Recovery(**BARE),
            "wrapper again": Recovery(**BARE),
            "persistence": stack.enter_context(journalled(**BARE)),
            "classification": Recovery(breaker=None),
            "logging": Recovery(**BARE, enable_logging=True),
            "breaker": Recovery(breaker=BreakerPolicy(), enable_classification=False),
            "everything": stack.enter_context(journalled(enable_logging=True)),
        }
        is_observed = Recovery(**BARE)
        if watch(is_observed, stack):
            found["monitoring"] = is_observed
        yield found


def measure(effort: Effort) -> list[Row]:
    with services() as every, _quiet_log():
        journals = [service for service in every.values() if service.journal is not None]
        succeeding = {name: plain(service.recoverable("succeeds")(work)) for name, service in every.items()}
        failing = {
            name: plain(service.recoverable("fails", initial_delay=0.0)(fails_first()))
            for name, service in every.items()
        }
        success = interleave(succeeding, effort.rounds * 4)
        failure = interleave(failing, effort.rounds * 2, times=50, settle=lambda: settle(*journals))
    rows = [
        Row(
            key="feature-wrapper",
            what="the wrapper alone, on success",
            unit="ns",
            measured=spread(success["wrapper"]).scaled(1e9),
            note=f"two like it differ by {differences(success['wrapper again'], success['wrapper']).middle * 1e9:.1f} "
            "ns",
        ),
        Row(
            key="feature-wrapper-failure",
            what="the wrapper alone, one failure then success",
            unit="µs",
            measured=spread(failure["wrapper"]).scaled(1e6),
        ),
    ]
    for name in ("persistence", "classification", "logging", "breaker", "monitoring", "everything"):
        is_known = name in every
        limit = most(500.0) if name == "monitoring" else most(RESOLUTION, f"0 (resolution {RESOLUTION:.0f} ns)")
        rows.append(
            Row(
                key=f"feature-{name}",
                what=f"{name}{'' if name == 'everything' else ' alone'}, on success, beyond the wrapper",
                unit="ns",
                measured=differences(success[name], success["wrapper"]).scaled(1e9) if is_known else None,
                goal=limit,
                before=BEFORE.get(name, ""),
                note="" if is_known else "not in this tree, or its extra is not installed",
            )
        )
        rows.append(
            Row(
                key=f"feature-{name}-failure",
                what=f"{name}{'' if name == 'everything' else ' alone'}, one failure then success, beyond the wrapper",
                unit="µs",
                measured=differences(failure[name], failure["wrapper"]).scaled(1e6) if is_known else None,
                note="" if is_known else "not in this tree, or its extra is not installed",
            )
        )
    return rows


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Records are made and formatted, and go nowhere: what a terminal or a disk takes is not ours."""
    log = logging.getLogger("recovery")
    handler = _Formatting()
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = propagate
        log.removeHandler(handler)


class _Formatting(logging.Handler):
    """Formats each record, as any handler must, and forgets it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
