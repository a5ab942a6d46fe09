"""A resumable call that ``sys.exit`` ends is cancelled, and a warning says how it is left to the next run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from adapters.memory import MemoryStore
from recovery.service import Recovery
from tests.recovery.resume.dead_process import SETTINGS, resume


def exit_in(store: MemoryStore, before: Callable[[Recovery], object], **settings: Any) -> None:
    """A process whose handler of a signal exits in the middle of a call."""
    with Recovery(store=store) as service:

        def body(_: str) -> None:
            before(service)
            sys.exit(143)

        with pytest.raises(SystemExit):
            service.recoverable("work", **{**SETTINGS, **settings})(body)("a")


def test_an_exit_without_a_stop_warns_that_the_call_is_not_resumed(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    exit_in(store, lambda _: None)
    [warned] = caplog.messages
    assert "was cancelled, because sys.exit ended it: no run resumes it" in warned
    assert "call service.stop() before sys.exit" in warned
    assert resume(store, lambda _: None).calls == []


def test_an_exit_after_a_stop_leaves_the_call_to_the_next_run(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    exit_in(store, Recovery.stop)
    assert caplog.messages == []
    assert len(resume(store, lambda _: None).calls) == 1


@pytest.mark.parametrize("settings", [{"resumable": False, "idempotency_key": str}, {"enable_logging": False}])
def test_an_exit_says_nothing_of_a_call_that_none_resumes_or_that_is_silent(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    exit_in(MemoryStore(), lambda _: None, **settings)
    assert caplog.messages == []
