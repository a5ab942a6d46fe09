"""Where the time goes: a ladder of services, each with one thing more than the one before; the steps are the answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench.measure import Effort, Spread, Timed, differences, interleave, plain, spread
from bench.row import Row
from bench.workloads import fails_first, handwritten, journalled, settle, work
from events import Evidence
from events.bus import Bus
from events.evidence import Category
from events.operation import Operation
from events.operation_events import FailureClassified, OperationFailed, RetryScheduled
from events.verdicts import Retry
from recovery import Recovery
from recovery.policies.classification import classify_evidence

ERROR = ConnectionResetError("reset")
EVIDENCE = Evidence(type="ConnectionResetError", kinds=("ConnectionError", "OSError"), message="reset")


def measure(effort: Effort) -> list[Row]:
    with ExitStack() as stack:
        service = stack.enter_context(journalled())
        success: dict[str, Timed] = {
            "work": plain(work),
            "hand-written": plain(handwritten(work)),
            "wrapper": plain(Recovery(breaker=None, enable_classification=False).recoverable("ladder")(work)),
            "everything": plain(service.recoverable("ladder")(work)),
        }
        alone, breaking = Recovery(breaker=None), Recovery()
        failure: dict[str, Timed] = {
            "attempt": plain(_failing(Operation("ladder", Bus()))),
            "dispatch": plain(_failing(Operation("ladder", _answering_bus()))),
            "decide": plain(_failing(alone.operation("ladder"))),
            "break": plain(_failing(breaking.operation("ladder"))),
            "journal": plain(_failing(service.operation("ladder by hand"))),
            "classify": plain(partial(classify_evidence, EVIDENCE)),
            "raise": plain(handwritten(fails_first())),
            "call": plain(service.recoverable("ladder whole", initial_delay=0.0)(fails_first())),
        }
        on_success = interleave(success, effort.rounds * 4)
        on_failure = interleave(failure, effort.rounds * 2, times=50, settle=lambda: settle(service))
    return [*_success(on_success), *_failure(on_failure)]


def _failing(operation: Operation) -> Callable[[], Any]:
    def fail() -> None:
        operation.start().fail(ERROR)

    return fail


def _answering_bus() -> Bus:
    """A bus whose subscribers know their answers: what is left is the bus."""
    bus = Bus()
    classified = FailureClassified(
        at=0.0, operation="ladder", call="ladder", category=Category.TRANSIENT, evidence=EVIDENCE
    )
    verdict = Retry(0.0)
    bus.subscribe(OperationFailed, lambda _: classified)
    bus.subscribe(FailureClassified, lambda _: verdict)
    bus.subscribe(RetryScheduled, lambda _: None)
    return bus


def _success(times: dict[str, list[float]]) -> list[Row]:
    steps = [
        ("work", "the work and the loop around it", spread(times["work"])),
        ("hand-written", "the smallest try/except wrapper", differences(times["hand-written"], times["work"])),
        ("wrapper", "what our wrapper takes beyond that", differences(times["wrapper"], times["hand-written"])),
        ("everything", "what journal, circuit and rules add to it", differences(times["everything"], times["wrapper"])),
    ]
    return [_row("success", key, f"success: {what}", "ns", taken.scaled(1e9)) for key, what, taken in steps]


def _failure(times: dict[str, list[float]]) -> list[Row]:
    judging = differences(times["decide"], times["dispatch"])
    classifying = spread(times["classify"])
    steps = [
        ("attempt", "the attempt and its event, nobody answers", spread(times["attempt"])),
        (
            "dispatch",
            "dispatch of three events and the join of verdicts",
            differences(times["dispatch"], times["attempt"]),
        ),
        ("classify", "classify: the table of rules, asked about the evidence", classifying),
        (
            "decide",
            "decide: take the evidence, ask the policy, build the events",
            Spread(
                judging.low - classifying.middle,
                judging.middle - classifying.middle,
                judging.high - classifying.middle,
                judging.rounds,
            ),
        ),
        ("break", "break: the circuit's count", differences(times["break"], times["decide"])),
        (
            "journal",
            "journal: two events accepted (its thread writes them)",
            differences(times["journal"], times["break"]),
        ),
        ("raise", "for comparison: raise, catch and call again, by hand", spread(times["raise"])),
        ("call", "in all: one failure then success, lazy journal", spread(times["call"])),
    ]
    return [_row("failure", key, what, "µs", taken.scaled(1e6)) for key, what, taken in steps]


def _row(path: str, key: str, what: str, unit: str, measured: Spread) -> Row:
    return Row(key=f"stage-{path}-{key}", what=what, unit=unit, measured=measured)
