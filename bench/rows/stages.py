"""Where the time goes: services that each have one part more than the one before; the difference is its cost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from bench.measure import Effort, Spread, Timed, differences, interleave, plain, spread
from bench.row import Row
from bench.workloads import do_nothing, fails_every_other, handwritten, journalled, settle
from events.bus import Bus
from events.evidence import Category, Evidence
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
            "function": plain(do_nothing),
            "hand-written": plain(handwritten(do_nothing)),
            "wrapper": plain(Recovery(breaker=None, enable_classification=False).recoverable("ladder")(do_nothing)),
            "everything": plain(service.recoverable("ladder")(do_nothing)),
        }
        alone, breaking = Recovery(breaker=None), Recovery()
        failure: dict[str, Timed] = {
            "attempt": plain(_failing(Operation("ladder", Bus()))),
            "dispatch": plain(_failing(Operation("ladder", _answering_bus()))),
            "decide": plain(_failing(alone.operation("ladder"))),
            "break": plain(_failing(breaking.operation("ladder"))),
            "journal": plain(_failing(service.operation("ladder by hand"))),
            "classify": plain(partial(classify_evidence, EVIDENCE)),
            "raise": plain(handwritten(fails_every_other())),
            "call": plain(service.recoverable("ladder whole", initial_delay=0.0)(fails_every_other())),
        }
        on_success = interleave(success, effort.rounds * 4)
        on_failure = interleave(failure, effort.rounds * 2, times=50, settle=lambda: settle(service))
    return [*_success(on_success), *_failure(on_failure)]


def _failing(operation: Operation) -> Callable[[], Any]:
    def fail() -> None:
        operation.start().fail(ERROR)

    return fail


def _answering_bus() -> Bus:
    """A bus whose subscribers return prepared answers, so that only the bus itself is measured."""
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
        ("work", "the function and the loop around it", spread(times["function"])),
        ("hand-written", "the smallest try/except wrapper", differences(times["hand-written"], times["function"])),
        ("wrapper", "our wrapper, beyond that", differences(times["wrapper"], times["hand-written"])),
        ("everything", "journal, circuit and rules, beyond that", differences(times["everything"], times["wrapper"])),
    ]
    return [_row("success", key, f"success: {what}", "ns", taken.scaled(1e9)) for key, what, taken in steps]


def _failure(times: dict[str, list[float]]) -> list[Row]:
    deciding = differences(times["decide"], times["dispatch"])
    classifying = spread(times["classify"])
    steps = [
        ("attempt", "the attempt and its event, without subscribers", spread(times["attempt"])),
        (
            "dispatch",
            "dispatch of three events and the join of verdicts",
            differences(times["dispatch"], times["attempt"]),
        ),
        ("classify", "classify: match the evidence with the table of rules", classifying),
        (
            "decide",
            "decide: extract the evidence, apply the policy, build the events",
            Spread(
                deciding.low - classifying.middle,
                deciding.middle - classifying.middle,
                deciding.high - classifying.middle,
                deciding.rounds,
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
