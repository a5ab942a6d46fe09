"""Classified failures, made for tests."""

from __future__ import annotations

from typing import Any

from events.evidence import Category, Evidence
from events.operation_events import FailureClassified


def a_failure(message: str = "reset", kind: str = "builtins.ConnectionError", **given: Any) -> FailureClassified:
    """A transient failure with that *message* and *kind* of exception."""
    about = {"at": 0.0, "operation": "fetch", "call": "a", "category": Category.TRANSIENT, "rule": "ConnectionError"}
    return FailureClassified(**{**about, "evidence": Evidence(type=kind, message=message), **given})


def about_failure(failure: FailureClassified | None = None) -> dict[str, Any]:
    """The fields of an ``Outcome`` that say what failed."""
    failure = failure or a_failure()
    return {"category": failure.category, "failure": failure}
