"""Where the time goes: whole calls by services that each have one part more than the one before.

The difference of two services is the cost of the part. Nothing is taken apart: each candidate is a call that a program
could make, so the steps stay true whichever way recovery takes inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.measure import Effort, Spread, Timed, differences, interleave, plain, spread
from bench.row import Row
from bench.workloads import (
    do_nothing,
    fails_every_other,
    fails_every_other_with_note,
    handwritten,
    journalled,
    observed,
    on_all_threads,
    settle,
)
from recovery import Recovery

BURST = 50


def measure(effort: Effort) -> list[Row]:
    with ExitStack() as stack:
        bare, classifying, breaking = (
            Recovery(breaker=None, enable_classification=False),
            Recovery(breaker=None),
            Recovery(),
        )
        service = stack.enter_context(journalled())
        success: dict[str, Timed] = {
            "function": plain(do_nothing),
            "by hand": plain(handwritten(do_nothing)),
            "wrapper": plain(bare.recoverable("succeeds")(do_nothing)),
            "everything": plain(service.recoverable("succeeds")(do_nothing)),
        }
        observed(service, "fails observed")
        failure: dict[str, Callable[[], Any]] = {
            "by hand": handwritten(fails_every_other()),
            "retry": _failing(bare, "fails"),
            "classify": _failing(classifying, "fails"),
            "break": _failing(breaking, "fails"),
            "journal": _failing(service, "fails"),
            "observers": _failing(service, "fails observed"),
            "note by hand": handwritten(fails_every_other_with_note()),
            "note": service.recoverable("fails with a note", initial_delay=0.0)(fails_every_other_with_note()),
        }
        on_success = interleave(success, effort.rounds * 4)
        timed = {name: plain(call) for name, call in failure.items()}
        on_failure = interleave(timed, effort.rounds * 2, times=BURST, settle=lambda: settle(service))
        whole = {"journal": on_all_threads(_failing(service, "fails whole"), service)}
        whole["caller"] = _on_caller(_failing(service, "fails in part"), service)
        on_processor = interleave(whole, effort.rounds, times=BURST)
    return [*_success(on_success), *_failure(on_failure), _writer(on_processor)]


def _failing(service: Recovery, name: str) -> Callable[[], Any]:
    return service.recoverable(name, initial_delay=0.0)(fails_every_other())


def _on_caller(call: Callable[[], Any], service: Recovery) -> Timed:
    timed = plain(call, time.thread_time)

    def settled(times: int) -> float:
        took = timed(times)
        settle(service)
        return took

    return settled


def _success(times: dict[str, list[float]]) -> list[Row]:
    steps = [
        ("work", "the function and the loop around it", spread(times["function"])),
        ("wrapper", "our wrapper, beyond that", differences(times["wrapper"], times["function"])),
        ("everything", "journal, circuit and rules, beyond that", differences(times["everything"], times["wrapper"])),
        (
            "hand-written",
            "for comparison: the smallest try/except wrapper, beyond the function",
            differences(times["by hand"], times["function"]),
        ),
    ]
    return [_row("success", key, f"success: {what}", "ns", taken.scaled(1e9)) for key, what, taken in steps]


def _failure(times: dict[str, list[float]]) -> list[Row]:
    steps = [
        ("raise", "raise, catch and call again, by hand", spread(times["by hand"])),
        ("retry", "decide to retry, beyond that", differences(times["retry"], times["by hand"])),
        ("classify", "classify the failure, beyond that", differences(times["classify"], times["retry"])),
        ("break", "the circuit, beyond that", differences(times["break"], times["classify"])),
        (
            "journal",
            "the caller's part of the lazy journal, beyond that",
            differences(times["journal"], times["break"]),
        ),
        ("call", "in all: the caller's time with the defaults and a lazy journal", spread(times["journal"])),
        (
            "observers",
            "three observers: of failure, retry and recovery, beyond that",
            differences(times["observers"], times["journal"]),
        ),
        (
            "general",
            "for comparison: the same failure with a note on the exception, beyond the same by hand",
            differences(times["note"], times["note by hand"]),
        ),
    ]
    return [_row("failure", key, f"failure: {what}", "µs", taken.scaled(1e6)) for key, what, taken in steps]


def _writer(times: dict[str, list[float]]) -> Row:
    taken = differences(times["journal"], times["caller"]).scaled(1e6)
    return _row("failure", "writer", "failure: processor time of the journal's thread, not the caller's", "µs", taken)


def _row(path: str, key: str, what: str, unit: str, measured: Spread) -> Row:
    return Row(key=f"stage-{path}-{key}", what=what, unit=unit, measured=measured)
