"""The cost of each feature alone, on success and on failure, over a service that has none.

On success a feature should cost nothing beyond the wrapper. A difference can only be shown to be below the resolution:
the medians of two identical services differ by a few nanoseconds, and that is the limit.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from bench.measure import Effort, differences, interleave, plain, spread
from bench.row import Row, most
from bench.workloads import do_nothing, do_nothing_with, fails_every_other, journalled, settle
from recovery import BreakerPolicy, Recovery
from recovery.presets import launcher

BARE: dict[str, Any] = {"breaker": None, "enable_classification": False}
URL = "https://example.org/models/model.safetensors"
RESOLUTION = 5.0
"""Nanoseconds below which a difference cannot be told from zero."""
BEFORE = {
    "persistence": "708 %",
    "classification": "15 %",
    "logging": "10 %",
    "breaker": "5 %",
}


@contextmanager
def services() -> Iterator[dict[str, Recovery]]:
    """A service without features (twice, to measure the resolution), and one service for each feature."""
    with ExitStack() as stack:
        found = {
            "wrapper": Recovery(**BARE),
            "wrapper again": Recovery(**BARE),
            "persistence": stack.enter_context(journalled(**BARE)),
            "classification": Recovery(breaker=None),
            "logging": Recovery(**BARE, enable_logging=True),
            "breaker": Recovery(breaker=BreakerPolicy(), enable_classification=False),
            "launcher": launcher(),
            "everything": stack.enter_context(journalled(enable_logging=True)),
        }
        monitored = Recovery(**BARE)
        with suppress(ImportError):  # the extra `monitor` is not installed
            stack.callback(monitored.monitor().close)
            found["monitoring"] = monitored
        yield found


def measure(effort: Effort) -> list[Row]:
    with services() as every, _quiet_log():
        journals = [service for service in every.values() if service.journal is not None]
        succeeding = {name: plain(service.recoverable("succeeds")(do_nothing)) for name, service in every.items()}
        succeeding["launcher"] = plain(partial(every["launcher"].recoverable("fetches")(do_nothing_with), URL))
        failing = {
            name: plain(service.recoverable("fails", initial_delay=0.0)(fails_every_other()))
            for name, service in every.items()
        }
        success = interleave(succeeding, effort.rounds * 4)
        failure = interleave(failing, effort.rounds * 2, times=50, settle=lambda: settle(*journals))
    resolution = differences(success["wrapper again"], success["wrapper"]).middle * 1e9
    rows = [
        Row(
            key="feature-wrapper",
            what="the wrapper alone, on success",
            unit="ns",
            measured=spread(success["wrapper"]).scaled(1e9),
            note=f"two identical services differ by {resolution:.1f} ns",
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
                note="" if is_known else "its extra is not installed",
            )
        )
        rows.append(
            Row(
                key=f"feature-{name}-failure",
                what=f"{name}{'' if name == 'everything' else ' alone'}, one failure then success, beyond the wrapper",
                unit="µs",
                measured=differences(failure[name], failure["wrapper"]).scaled(1e6) if is_known else None,
                note="" if is_known else "its extra is not installed",
            )
        )
    for unit, factor, key, what, times in (
        ("ns", 1e9, "feature-launcher", "presets.launcher(), on success, beyond the wrapper", success),
        (
            "µs",
            1e6,
            "feature-launcher-failure",
            "presets.launcher(), one failure then success, beyond the wrapper",
            failure,
        ),
    ):
        measured = differences(times["launcher"], times["wrapper"]).scaled(factor)
        rows.append(Row(key=key, what=what, unit=unit, measured=measured))
    return rows


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Log records are made and formatted but not written: the time of a terminal or a disk is not ours."""
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
    """A handler that formats each record and drops it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)
