"""The user's own rules, which are asked before the built-in ones."""

from __future__ import annotations

from typing import Any

import pytest

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.policies.classification import RECOVERABILITY, Classification, classify_evidence
from recovery.policies.rules import Rule, front_of, in_order
from recovery.service import Recovery
from recovery.subscribers.evidence_extraction import extract_evidence
from recovery.testing import Script, VirtualClock
from tests.recorded_events import events_of

REFUSED = Evidence(type="builtins.ConnectionRefusedError", kinds=("builtins.ConnectionError", "builtins.OSError"))
LOST = Category.LOST


@pytest.mark.parametrize(
    ("wanted", "evidence"),
    [
        ({"types": ConnectionRefusedError}, REFUSED),
        ({"types": (KeyError, OSError)}, REFUSED),
        ({"types": "ConnectionRefusedError"}, REFUSED),
        ({"types": ["comfy.ServerBusy"]}, Evidence(type="comfy.ServerBusy")),
        ({"statuses": 451}, Evidence(type="x.Error", status=451)),
        ({"statuses": range(520, 530)}, Evidence(type="x.Error", status=525)),
        ({"errnos": {28, 122}}, Evidence(type="x.Error", errno=28)),
        ({"exit_codes": -9}, Evidence(type="x.Error", exit_code=-9)),
        ({"exit_codes": 0xC0000005}, Evidence(type="x.Error", exit_code=0xC0000005)),
        ({"text": "out of.*memory"}, Evidence(type="x.Error", message="Out of\nGPU memory")),
        ({"text": "no gpu"}, Evidence(type="x.Error", stderr="fatal: NO GPU here")),
        ({"text": "busy", "statuses": {503}}, Evidence(type="x.Error", status=503, message="busy")),
    ],
)
def test_a_rule_fits_what_it_looks_for(wanted: dict[str, Any], evidence: Evidence) -> None:
    rule = Rule("mine", LOST, why="because", retry_after=3.0, **wanted)
    assert rule(evidence) == Classification(LOST, "mine", "because", 3.0)


@pytest.mark.parametrize(
    ("wanted", "evidence"),
    [
        ({"types": KeyError}, REFUSED),
        ({"types": "builtins.OSError2"}, REFUSED),
        ({"statuses": {503}}, Evidence(type="x.Error")),
        ({"statuses": {503}}, Evidence(type="x.Error", status=500)),
        ({"text": "busy", "statuses": {503}}, Evidence(type="x.Error", status=503, message="lazy")),
        ({"text": "busy", "statuses": {503}}, Evidence(type="x.Error", status=500, message="busy")),
    ],
)
def test_a_rule_fits_nothing_else(wanted: dict[str, Any], evidence: Evidence) -> None:
    assert Rule("mine", LOST, **wanted)(evidence) is None


@pytest.mark.parametrize(
    ("error", "field", "values"),
    [
        (TypeError, "name", [""]),
        (ValueError, "category", ["nonsense"]),
        (TypeError, "types", [int, 3, [""], "ReadTimeout"]),
        (TypeError, "statuses", ["503", True, [5.0]]),
        (ValueError, "errnos", [[-1]]),
        (ValueError, "text", ["(", "a{99999999999}"]),
        (TypeError, "text", [3]),
        (ValueError, "retry_after", [-1, float("nan")]),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_the_name_of_its_field(
    error: type[Exception], field: str, values: list[Any]
) -> None:
    for value in values:
        with pytest.raises(error, match=f"^{field}"):
            Rule(**{"name": "mine", "category": LOST, "types": OSError, field: value})


def test_a_rule_that_looks_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="rule 'mine' looks for nothing"):
        Rule("mine", LOST)


def test_the_first_rule_that_fits_decides_of_the_operations_then_of_the_services_then_of_the_built_in_ones() -> None:
    service = Recovery(
        clock=VirtualClock(),
        classifier=(Rule("service", Category.TRANSIENT, types=OSError), Rule("late", LOST, types=KeyError)),
    )
    failures = events_of(service, FailureClassified)
    rules = (Rule("own", Category.TRANSIENT, types=PermissionError), Rule("second", LOST, types=PermissionError))
    service.recoverable("own", classifier=rules)(Script(PermissionError()))()
    service.recoverable("other")(Script(PermissionError(), KeyError()))()
    with pytest.raises(ValueError, match="built in"):
        service.recoverable("third")(Script(ValueError("built in")))()
    assert [event.rule for event in failures] == ["own", "service", "late", "ValueError"]  # type: ignore[attr-defined]


def test_a_configured_classifier_holds_for_defined_operations() -> None:
    service = Recovery(clock=VirtualClock())
    script = Script(PermissionError())
    fetch = service.recoverable("fetch")(script)
    service.configure(classifier=Rule("renewed", Category.TRANSIENT, types=PermissionError))
    assert fetch() == "done"


def test_a_rule_can_ask_for_a_wait() -> None:
    clock = VirtualClock()
    service = Recovery(clock=clock, rng=lambda: 0.0)
    busy = Rule("busy", Category.TRANSIENT, types=TimeoutError, retry_after=30.0)
    service.recoverable("fetch", classifier=busy)(Script(TimeoutError()))()
    assert clock() == 30.0


def test_rules_look_at_the_cause_where_the_outer_error_says_nothing() -> None:
    error = RuntimeError("no")
    error.__cause__ = FileNotFoundError()
    front = front_of([Rule("not there yet", LOST, types=FileNotFoundError)], print)
    assert classify_evidence(extract_evidence(error), front) == Classification(LOST, "not there yet")


def test_one_that_breaks_is_reported_and_the_next_is_asked() -> None:
    broken: list[str] = []
    answers: list[Any] = [lambda _: 1 / 0, lambda _: "nonsense", lambda _: None, lambda _: "lost"]
    answer = front_of(answers, lambda _, error: broken.append(type(error).__name__))(REFUSED)
    assert answer is not None
    assert (answer.category is LOST, answer.rule, broken) == (True, "classifier", ["ZeroDivisionError", "ValueError"])


@pytest.mark.parametrize("classifier", ["rules", 3, [Rule("x", LOST, types=OSError), None]])
def test_what_is_no_classifier_is_refused_by_the_name_of_its_field(classifier: Any) -> None:
    with pytest.raises(TypeError, match=r"^classifier must be"):
        in_order("classifier", classifier)
    with pytest.raises(TypeError, match=r"^classifier must be"):
        Recovery(classifier=classifier)


def test_every_category_says_what_can_become_of_it() -> None:
    assert sorted(RECOVERABILITY) == sorted(Category)
    assert Classification(Category.AUTH, "x").recoverability == "ask"


@pytest.mark.parametrize("after", [-50.0, float("nan"), float("inf"), "soon", True])
def test_an_answer_with_an_impossible_wait_is_none(after: Any) -> None:
    broken: list[Exception] = []
    front = front_of([lambda _: Classification(LOST, "mine", "", after)], lambda _, error: broken.append(error))
    assert (front(REFUSED), len(broken)) == (None, 1)
