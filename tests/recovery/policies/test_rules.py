"""The user's own rules, which are asked before the built-in ones."""

from __future__ import annotations

import subprocess
from typing import Any, ClassVar

import pytest

from events.errors import Permanent, Retryable
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from events.verdicts import Park, Retry
from recovery.policies.classification import RECOVERABILITY, Classification
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
    ("fields", "error", "field"),
    [
        ({"name": ""}, TypeError, "name"),
        ({"category": "nonsense"}, ValueError, "category"),
        ({"types": int}, TypeError, "types"),
        ({"types": 3}, TypeError, "types"),
        ({"types": [""]}, TypeError, "types"),
        ({"types": "ReadTimeout"}, TypeError, "types"),
        ({"statuses": "503"}, TypeError, "statuses"),
        ({"statuses": True}, TypeError, "statuses"),
        ({"statuses": [5.0]}, TypeError, "statuses"),
        ({"errnos": [-1]}, ValueError, "errnos"),
        ({"text": "("}, ValueError, "text"),
        ({"text": 3}, TypeError, "text"),
        ({"retry_after": -1}, ValueError, "retry_after"),
        ({"retry_after": float("nan")}, ValueError, "retry_after"),
        ({"types": ()}, ValueError, "rule 'mine' looks for nothing"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_the_name_of_its_field(
    fields: dict[str, Any], error: type[Exception], field: str
) -> None:
    with pytest.raises(error, match=f"^{field}"):
        Rule(**{"name": "mine", "category": LOST, "types": OSError, **fields})


def test_the_first_rule_that_fits_decides() -> None:
    service = Recovery(clock=VirtualClock())
    failures = events_of(service, FailureClassified)
    rules = (Rule("first", Category.TRANSIENT, types=OSError), Rule("second", Category.PERMANENT, types=OSError))
    service.recoverable("fetch", classifier=rules)(Script(PermissionError()))()
    assert [(event.rule, event.category) for event in failures] == [("first", Category.TRANSIENT)]  # type: ignore[attr-defined]


def test_an_operations_rules_come_before_the_services_and_those_before_the_built_in_ones() -> None:
    service = Recovery(
        clock=VirtualClock(),
        classifier=(Rule("service", Category.TRANSIENT, types=OSError), Rule("late", LOST, types=KeyError)),
    )
    failures = events_of(service, FailureClassified)
    own = service.recoverable("own", classifier=Rule("own", Category.TRANSIENT, types=PermissionError))
    own(Script(PermissionError()))()
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
    class WrappedError(Exception):
        pass

    error = WrappedError("no")
    error.__cause__ = FileNotFoundError()
    script = Script(error)
    rule = Rule("not there yet", Category.TRANSIENT, types=FileNotFoundError)
    assert Recovery(clock=VirtualClock()).recoverable("fetch", classifier=rule)(script)() == "done"


def test_permanent_beats_every_rule() -> None:
    script = Script(Permanent())
    with pytest.raises(Permanent):
        Recovery().recoverable("fetch", classifier=Rule("mine", Category.TRANSIENT, types=Exception))(script)()
    assert script.calls == 1


def test_one_that_breaks_is_reported_and_the_next_is_asked() -> None:
    broken: list[str] = []

    def bad(evidence: Evidence) -> Category:
        raise KeyError("oops")

    front = front_of(
        [bad, lambda _: "nonsense", lambda _: None, lambda _: LOST],  # type: ignore[list-item,return-value]
        lambda _, error: broken.append(type(error).__name__),
    )
    assert (front(REFUSED), broken) == (Classification(LOST, "classifier"), ["KeyError", "ValueError"])


@pytest.mark.parametrize("classifier", ["rules", 3, [Rule("x", LOST, types=OSError), None]])
def test_what_is_no_classifier_is_refused_by_the_name_of_its_field(classifier: Any) -> None:
    with pytest.raises(TypeError, match=r"^classifier must be"):
        in_order("classifier", classifier)
    with pytest.raises(TypeError, match=r"^classifier must be"):
        Recovery(classifier=classifier)


def test_every_category_says_what_can_become_of_it() -> None:
    assert sorted(RECOVERABILITY) == sorted(Category)
    assert Classification(Category.AUTH, "x").recoverability == "ask"


def test_an_error_message_comes_with_the_reason() -> None:
    service = Recovery(clock=VirtualClock())
    failures = events_of(service, FailureClassified)
    error = subprocess.CalledProcessError(128, "git", stderr="fatal: early EOF")
    service.recoverable("clone")(Script(error))()
    assert [(event.rule, event.why) for event in failures] == [("git-broken-off", "the transfer broke off")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "done"),
    [
        (EOFError(), None),
        (__import__("http.client").client.IncompleteRead(b"12345"), 5),
        (__import__("asyncio").IncompleteReadError(b"123", 9), 3),
    ],
)
def test_the_evidence_says_how_far_a_transfer_came(error: Exception, done: int | None) -> None:
    assert extract_evidence(error).bytes_done == done


def test_the_bytes_done_that_an_error_names_are_taken() -> None:
    class StalledError(Exception):
        bytes_done = 7

    assert extract_evidence(StalledError()).bytes_done == 7


@pytest.mark.parametrize("after", [-50.0, float("nan"), float("inf"), "soon", True])
def test_an_answer_with_an_impossible_wait_is_none(after: Any) -> None:
    service = Recovery(clock=VirtualClock(), rng=lambda: 0.5)
    failures = events_of(service, FailureClassified)
    classify = lambda _: Classification(Category.TRANSIENT, "mine", retry_after=after)  # noqa: E731
    service.recoverable("fetch", classifier=classify)(Script(ConnectionError()))()
    assert [(event.rule, event.retry_after) for event in failures] == [("ConnectionError", None)]  # type: ignore[attr-defined]


def test_a_category_may_be_answered_by_its_name() -> None:
    front = front_of([lambda _: Classification("lost", "mine")], lambda *_: None)  # type: ignore[arg-type]
    answer = front(REFUSED)
    assert answer is not None
    assert answer.category is Category.LOST


class LimitedError(Exception):
    status = 429
    headers: ClassVar = {"Retry-After": "600"}


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "least"),
    [
        (caused_by(LimitedError()), 600.0),
        (caused_by(Retryable(after=30.0)), 30.0),
        (ExceptionGroup("both", [LimitedError(), ConnectionRefusedError()]), 600.0),
        (ExceptionGroup("both", [Retryable(after=5.0), Retryable(after=100.0)]), 100.0),
    ],
)
def test_a_wait_that_was_asked_for_is_found_wherever_it_is(error: Exception, least: float) -> None:
    verdict = Recovery(clock=VirtualClock()).operation("fetch").start().fail(error)
    assert isinstance(verdict, Park | Retry)
    assert verdict.after >= least
