"""A handler that ships log records by a recoverable call, to a collector that is down."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from events.evidence import Evidence
from events.operation_events import FailureClassified
from recovery.policies.backoff import Constant
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.subscribers.log import Log
from recovery.testing import VirtualClock
from tests.events.recorder import raising

TRIES = 4


class Shipping(logging.Handler):
    """Sends each record on; what the call raises passes."""

    def __init__(self, service: Recovery, **settings: Any) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.ship = service.recoverable("ship", breaker=None, **settings)(self._send)

    def _send(self, text: str) -> None:
        self.sent.append(text)
        assert len(self.sent) < 1000, "it never ends"
        raise ConnectionError("the collector is down")

    def emit(self, record: logging.LogRecord) -> None:
        self.ship(record.getMessage())


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root, before = logging.getLogger(), logging.getLogger().handlers[:]
    yield root
    root.handlers[:] = before


def cannot_tell(_: Evidence) -> None:
    raise LookupError("a rule of the user's")


def cannot_decide(_: int) -> float:
    raise LookupError("a backoff of the user's")


@pytest.mark.parametrize(
    "trouble", ["none", "a subscriber", "a subscriber of verdicts", "a classifier", "a policy", "another logger"]
)
def test_the_lines_of_a_call_that_ships_lines_come_to_an_end(
    trouble: str, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Recovery(clock=VirtualClock(), enable_logging=True)
    settings: dict[str, Any] = {"policy": RetryPolicy(backoff=Constant(1.0))}
    match trouble:
        case "a subscriber":
            service.bus.subscribe(FailureClassified, raising)
        case "a subscriber of verdicts":
            service.bus.subscribe(FailureClassified, raising, on_error="give up")
        case "a classifier":
            settings["classifier"] = cannot_tell
        case "a policy":
            settings = {"policy": RetryPolicy(backoff=cannot_decide)}
        case "another logger":
            service.bus.subscribe(FailureClassified, lambda failure: Log(logger=logging.getLogger("mine"))(failure))
    handler = Shipping(service, **settings)
    root.addHandler(handler)
    with pytest.raises(ConnectionError):  # the handler's own: the library's log raises nothing
        root.warning("hello")
    # Each line that the one call causes is shipped once more, and what that causes is not.
    assert 1 <= len(handler.sent) <= TRIES * (1 + 2 * TRIES)
    assert handler.sent[0] == "hello"
    assert "the collector is down" in capsys.readouterr().err


def test_a_handler_that_raises_fails_no_call(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            raise RuntimeError("a broken handler")

    root.addHandler(Broken())
    service, script = Recovery(clock=VirtualClock(), enable_logging=True), [ConnectionError(), OSError(5), "a page"]
    service.bus.subscribe(FailureClassified, raising)

    @service.recoverable("fetch")
    def fetch() -> object:
        outcome = script.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert fetch() == "a page"
    assert "a broken handler" in capsys.readouterr().err


def test_a_line_says_where_it_was_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = Recovery()
    service.bus.subscribe(FailureClassified, raising)
    with pytest.raises(ValueError, match="no"):
        service.recoverable("fetch")(lambda: int("no"))()
    assert {record.module for record in caplog.records} == {"isolation", "log"}
