"""``classify`` for any exception, and the subscriber that asks the rules of an operation and of its service first."""

from __future__ import annotations

import concurrent.futures
import errno
from typing import Any

import pytest

from events.bus import Bus
from events.errors import NeedsPerson, Permanent, RecoveryError, Retryable
from events.evidence import Category, Remedy
from events.operation_events import FailureClassified, OperationFailed
from recovery.policies.classification import Classification
from recovery.policies.retry import decide
from recovery.settings import ConfigOf, Settings
from recovery.settings_check import Defaults, make_config
from recovery.subscribers.budget import RetryBudgets
from recovery.subscribers.classification import Classify, classify
from recovery.subscribers.evidence_extraction import extract_evidence
from recovery.subscribers.exhausted import mark_exhausted
from recovery.subscribers.retry import Schedule
from tests.recovery.http_errors import answered

TRANSIENT, UNREACHABLE, RATE_LIMITED, ENVIRONMENT, AUTH, LOST, PERMANENT, EXHAUSTED, CANCELLED = Category


@pytest.mark.parametrize(
    ("error", "classification"),
    [
        (ConnectionRefusedError(), Classification(UNREACHABLE, "ConnectionRefusedError")),
        (Retryable(after=7.0), Classification(TRANSIENT, "events.errors.Retryable", retry_after=7.0)),
        (answered(429, Retry_After="5"), Classification(RATE_LIMITED, "status 429", retry_after=5.0)),
        (ExceptionGroup("", [OSError(), Permanent()]), Classification(PERMANENT, "events.errors.Permanent")),
        (
            ExceptionGroup("", [answered(429, Retry_After="5"), answered(503, Retry_After="60")]),
            Classification(RATE_LIMITED, "status 429", retry_after=60.0),
        ),
        (KeyboardInterrupt(), Classification(CANCELLED, "KeyboardInterrupt")),
        (BaseExceptionGroup("", [OSError(), SystemExit()]), Classification(CANCELLED, "SystemExit")),
    ],
    ids=lambda given: type(given).__name__,
)
def test_classify_takes_any_exception(error: BaseException, classification: Classification) -> None:
    assert classify(error) == classification


def test_classify_refuses_what_is_no_exception() -> None:
    with pytest.raises(TypeError, match="takes an exception or Evidence, not 5"):
        classify(5)  # type: ignore[arg-type]


def test_classify_takes_evidence() -> None:
    assert classify(extract_evidence(OSError(errno.ENOSPC, "full"))).category is ENVIRONMENT


# The subscriber: OperationFailed -> FailureClassified


def stage(enabled: bool = True, **settings: Any) -> Classify:
    config = make_config(Settings(**settings), defaults=Defaults(), has_store=False)
    return Classify({"fetch": config}.get, enabled=enabled)


def failed(error: Exception, **given: Any) -> OperationFailed:
    return OperationFailed(**{"at": 1.0, "operation": "fetch", "call": "a", "error": error, **given})


def judged(error: Exception, *, enabled: bool = True, **settings: Any) -> FailureClassified:
    classified = stage(enabled, **settings).on_failure(failed(error))
    assert classified is not None
    return classified


def marked(error: Exception, operation: str) -> Exception:
    mark_exhausted(error, operation)
    return error


def test_an_operation_that_is_not_the_services_is_left_alone() -> None:
    assert stage().on_failure(failed(OSError(), operation="foreign")) is None


def test_what_the_failure_said_is_passed_on() -> None:
    classified = stage().on_failure(failed(answered(404), key="host", attempt=3, retries=2, elapsed=5.0, waited=1.0))
    assert classified == FailureClassified(
        at=1.0,
        operation="fetch",
        key="host",
        call="a",
        attempt=3,
        category=PERMANENT,
        rule="status 404",
        evidence=extract_evidence(answered(404)),
        retries=2,
        elapsed=5.0,
        waited=1.0,
    )


@pytest.mark.parametrize(
    ("error", "settings", "category", "rule"),
    [
        (marked(OSError(), "inner"), {}, EXHAUSTED, "inner has tried already"),
        (marked(Retryable(), "inner"), {"retry_on": Exception}, EXHAUSTED, "inner has tried already"),
        (marked(OSError(), "inner"), {"retry_exhausted": True}, TRANSIENT, "unknown error"),
        (marked(OSError(), "fetch"), {}, TRANSIENT, "unknown error"),
        (Permanent(), {"retry_on": Permanent}, PERMANENT, "Permanent"),
        (Permanent(), {"classifier": lambda _: TRANSIENT}, PERMANENT, "Permanent"),
        (Retryable(), {"retry_on": KeyError}, TRANSIENT, "Retryable"),
        (Retryable(), {"enable_classification": False}, TRANSIENT, "Retryable"),
        (Permanent(), {"enable_classification": False}, PERMANENT, "Permanent"),
        (NeedsPerson(), {"classifier": lambda _: TRANSIENT}, AUTH, "NeedsPerson"),
        (KeyError(), {"retry_on": (OSError, LookupError)}, TRANSIENT, "retry_on"),
        (OSError(), {"retry_on": KeyError}, PERMANENT, "retry_on"),
        (OSError(), {"retry_on": KeyError, "classifier": lambda _: TRANSIENT}, PERMANENT, "retry_on"),
        (KeyError(), {"classifier": lambda _: TRANSIENT}, TRANSIENT, "classifier"),
        (KeyError(), {"classifier": lambda _: Classification(LOST, "mine")}, LOST, "mine"),
        (KeyError(), {"classifier": lambda _: None}, PERMANENT, "LookupError"),
        (KeyError(), {"enable_classification": False}, TRANSIENT, "classification is off"),
    ],
)
def test_the_rules_are_asked_in_order(error: Exception, settings: Any, category: Category, rule: str) -> None:
    classified = judged(error, **settings)
    assert (classified.category, classified.rule) == (category, rule)


@pytest.mark.parametrize(
    ("settings", "category"), [({}, TRANSIENT), ({"enable_classification": True}, PERMANENT)], ids=["open", "asked for"]
)
def test_the_service_decides_whether_to_classify_where_the_operation_leaves_it_open(
    settings: Any, category: Category
) -> None:
    assert judged(KeyError(), enabled=False, **settings).category is category


@pytest.mark.parametrize(
    ("leaves", "category"),
    [
        ([TimeoutError(), OSError(errno.ENOSPC, "full")], ENVIRONMENT),
        ([answered(503), answered(404), answered(429)], PERMANENT),
        ([OSError(), ExceptionGroup("", [TimeoutError(), Permanent()])], PERMANENT),
        ([KeyError(), concurrent.futures.CancelledError()], CANCELLED),
        ([TimeoutError(), Retryable()], TRANSIENT),
        ([marked(OSError(), "inner"), OSError()], EXHAUSTED),
    ],
)
def test_a_group_is_as_bad_as_its_worst_leaf(leaves: list[Exception], category: Category) -> None:
    assert judged(ExceptionGroup("several", leaves)).category is category


LOGIN = Remedy("Log in.", question="login")
LICENCE = Remedy("Accept the licence.", link="https://example.org", question="licence")


class BearerError(RecoveryError):
    """An error with a remedy under that name."""

    def __init__(self, remedy: object) -> None:
        super().__init__("refused")
        self.remedy = remedy


class ComputingError(Exception):
    """An error that computes its remedy."""

    @property
    def remedy(self) -> Remedy:
        raise OSError("no")


@pytest.mark.parametrize(
    ("error", "settings", "remedy"),
    [
        (NeedsPerson("401", remedy=LOGIN), {}, LOGIN),
        (BearerError(LOGIN), {}, LOGIN),
        (BearerError(LOGIN), {"classifier": lambda _: Classification(AUTH, "mine", remedy=LICENCE)}, LICENCE),
        (ExceptionGroup("both", [BearerError(LICENCE), NeedsPerson("401", remedy=LOGIN)]), {}, LOGIN),
        (NeedsPerson("401"), {}, None),
        (BearerError("Log in."), {}, None),
        (BearerError(Remedy(5)), {}, None),  # type: ignore[arg-type]  # a struct does not check its fields
        (ComputingError(), {}, None),
    ],
)
def test_an_error_bears_its_remedy_unless_a_rule_has_one(error: Exception, settings: Any, remedy: object) -> None:
    assert judged(error, **settings).remedy == remedy
    if not settings:
        assert classify(error).remedy == remedy


def test_a_group_that_an_inner_call_has_exhausted_is_exhausted() -> None:
    assert judged(marked(ExceptionGroup("several", [OSError()]), "inner")).category is EXHAUSTED


def test_a_group_that_retry_on_names_is_retried() -> None:
    assert judged(ExceptionGroup("several", [OSError()]), retry_on=ExceptionGroup).category is TRANSIENT


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (caused_by(answered(429, Retry_After="600")), 600.0),
        (caused_by(Retryable(after=30.0)), 30.0),
        (ExceptionGroup("both", [answered(429, Retry_After="600"), ConnectionRefusedError()]), 600.0),
        (ExceptionGroup("both", [Retryable(after=5.0), Retryable(after=100.0), answered(503)]), 100.0),
    ],
)
def test_the_longest_wait_that_was_asked_for_is_found_wherever_it_is(error: Exception, after: float) -> None:
    assert judged(error).retry_after == after


@pytest.mark.parametrize(
    "answer",
    [lambda _: 1 / 0, lambda _: "nonsense", lambda _: 7, lambda _: ("lost", "mine")],
    ids=["raises", "no category", "a number", "a pair"],
)
def test_where_a_classifier_is_broken_the_built_in_rules_decide(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert judged(KeyError(), classifier=answer).rule == "LookupError"
    assert "the classifier of fetch failed" in caplog.text


def test_a_retryable_that_forgot_to_call_super_is_retried() -> None:
    class BusyError(Retryable):
        def __init__(self, subscription: int) -> None:
            self.subscription = subscription

    assert judged(BusyError(7)).category is TRANSIENT


def scheduled(config_of: ConfigOf) -> Schedule:
    return Schedule(config_of, lambda: 0.25, RetryBudgets(Bus(), config_of, lambda _operation, _key: None))


def test_the_schedule_is_the_policys() -> None:
    config = make_config(Settings(), defaults=Defaults(), has_store=False)
    classified = judged(TimeoutError())
    assert scheduled({"fetch": config}.get).on_classified(classified) == decide(config.policy, classified, 0.25)


def test_an_operation_that_is_not_the_services_is_not_scheduled() -> None:
    assert scheduled({}.get).on_classified(judged(TimeoutError())) is None
