"""docs/reference/classification.md has every category and rule, in the order in which they decide."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

from events import Evidence, FailureClassified, Permanent
from recovery import Recovery, Rule, classify
from tests.docs.classification_page import BEGIN, PAGE, tables

MINE = Rule("mine", "lost", types=(KeyError, unittest.SkipTest, Permanent))
THEIRS = Rule("theirs", "auth", types=(KeyError,))


def test_the_page_has_the_categories_and_rules_of_the_code():
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2] == tables(), (
        "run `python -m tests.docs.classification_page`"
    )


def never(_: Exception) -> bool:
    return False


def always(_: Exception) -> bool:
    return True


@pytest.mark.parametrize(
    ("rule", "error", "settings", "options"),
    [
        ("unittest.case.SkipTest", unittest.SkipTest(), {"classifier": MINE}, {}),  # 1
        ("Permanent", Permanent(), {"retry_on": Permanent}, {}),  # 2 before 5
        ("retry_on", KeyError(), {"retry_on": KeyError, "retry_if_error": never}, {}),  # 5 before 6
        ("retry_if_error", KeyError(), {"retry_on": ValueError, "retry_if_error": always}, {}),  # 6 before 7
        ("retry_on", KeyError(), {"retry_on": ValueError, "classifier": MINE}, {}),  # 7 before 8
        ("mine", KeyError(), {"classifier": MINE}, {"classifier": THEIRS}),  # 8 before 9
        ("theirs", KeyError(), {}, {"classifier": THEIRS}),  # 9 before 10
        ("LookupError", KeyError(), {}, {}),  # 10
        ("theirs", KeyError(), {"enable_classification": False}, {"classifier": THEIRS}),  # 9 before 11
        ("classification is off", KeyError(), {"enable_classification": False}, {}),  # 11
    ],
)
def test_what_is_asked_first_decides(
    rule: str, error: Exception, settings: dict[str, Any], options: dict[str, Any]
) -> None:
    service = Recovery(enable_logging=False, **options)
    rules: list[str] = []
    service.bus.subscribe(FailureClassified, lambda failure: rules.append(failure.rule))

    @service.recoverable(max_retries=0, **settings)
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fail()
    assert rules == [rule]


def test_an_inner_call_that_gave_up_comes_before_retry_on():
    service = Recovery(enable_logging=False)
    rules: list[str] = []
    service.bus.subscribe(FailureClassified, lambda failure: rules.append(failure.rule))

    @service.recoverable("inner", max_retries=0)
    def inner() -> None:
        raise OSError

    outer = service.recoverable("outer", max_retries=0, retry_on=OSError)(lambda: inner())
    with pytest.raises(OSError):
        outer()
    assert rules == ["unknown error", "inner has tried already"]


def test_a_result_that_is_not_wanted_comes_before_retry_on():
    service = Recovery(enable_logging=False)
    rules: list[str] = []
    service.bus.subscribe(FailureClassified, lambda failure: rules.append(failure.rule))
    service.recoverable("poll", max_retries=0, retry_if=lambda result: True, retry_on=KeyError)(lambda: 1)()
    assert rules == ["retry_if"]


LOST = "CUDA error: device-side assert triggered"


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        ("code UNAVAILABLE", {"code": "UNAVAILABLE", "status": 404}),  # 1 before 2
        ("status 404", {"status": 404, "exit_code": 1}),  # 2 before 3
        ("signal 9", {"exit_code": -9, "stderr": LOST}),  # 3 before 4
        ("gpu-poisoned", {"exit_code": 1, "stderr": LOST, "kinds": ("builtins.ValueError",)}),  # 4 before 5
        ("ValueError", {"kinds": ("builtins.ValueError",), "errno": 2}),  # 5 before 6
        ("errno ENOENT", {"errno": 2, "kinds": ("builtins.ConnectionError",)}),  # 6 before 7
        ("ConnectionError", {"kinds": ("builtins.ConnectionError",), "cause": Evidence(type="x.Y", errno=2)}),  # 7
        ("errno ENOENT", {"cause": Evidence(type="x.Y", errno=2), "message": LOST}),  # 8 before 9
        ("gpu-poisoned", {"message": LOST}),  # 9
        ("unknown error", {"message": "Early EOF"}),  # 10
    ],
)
def test_the_stages_decide_in_the_order_of_the_page(rule: str, evidence: dict[str, Any]) -> None:
    assert classify(Evidence(type="example.Error", **evidence)).rule == rule
