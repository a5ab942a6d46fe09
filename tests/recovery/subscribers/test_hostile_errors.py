"""Exceptions that raise or lie where they are read: the failure is handled, and the caller gets its own exception."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import httpx2
import msgspec
import pytest

from adapters.memory import MemoryStore
from events.evidence import Evidence
from events.operation_events import FailureClassified
from recovery import Recovery, classify
from recovery.subscribers.evidence_extraction import LEVELS, extract_evidence
from recovery.subscribers.guarded_reading import MAX_WHOLE

HUGE = 10**400


class AnyError(Exception):
    """Any attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class RaisingError(Exception):
    """Raises from each attribute that its class does not have, in a way of its own."""

    def __init__(self, raised: type[Exception]) -> None:
        self.__dict__["raised"] = raised

    def __getattr__(self, name: str) -> Any:
        raise self.__dict__["raised"](name)


class EverythingError(Exception):
    """Answers each attribute with an object of *make*."""

    def __init__(self, make: Any) -> None:
        self.__dict__["make"] = make

    def __getattr__(self, name: str) -> Any:
        if name == "__recovery_exhausted_by__" or not name.startswith("__"):
            return self.__dict__["make"]()
        raise AttributeError(name)


def unclassed(raised: type[Exception] | type = ZeroDivisionError) -> Exception:
    """An error whose ``__class__`` raises, or is another class."""

    class UnclassedError(Exception):
        @property
        def __class__(self) -> Any:  # hostile on purpose
            if issubclass(raised, ArithmeticError):
                raise raised
            return raised

        @__class__.setter
        def __class__(self, value: type) -> None:
            raise AttributeError

    return UnclassedError("no")


class Endless:
    """Headers without an end."""

    def items(self) -> Iterator[tuple[str, str]]:
        while True:
            yield "x", "y"


class Wilful(dict[Any, Any]):
    """A dictionary whose methods raise."""

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError

    get = items = keys = values = __iter__ = __contains__ = __getitem__  # type: ignore[assignment]


class WilfulKey:
    def __hash__(self) -> int:
        return hash("ResponseMetadata")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


class OddNumber(int):
    __le__ = __ge__ = __lt__ = __gt__ = __eq__ = __hash__ = __float__ = __int__ = lambda *_: 1 / 0  # type: ignore[assignment]


class OddFloat(float):
    __le__ = __ge__ = __lt__ = __gt__ = __ne__ = __eq__ = __float__ = lambda *_: 1 / 0  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class GroupError(ExceptionGroup[Exception]):
    """A group that hides what it holds."""

    @property
    def exceptions(self) -> Any:
        raise RuntimeError


class UnnamedType(type):
    __module__ = __dict__ = __mro__ = property(lambda _: 1 / 0)  # type: ignore[assignment]


class RaisingCauseError(Exception):
    __cause__ = __context__ = __dict__ = args = property(lambda _: 1 / 0)  # type: ignore[assignment]


async def later() -> int:
    return 503


def unnamed() -> Exception:
    return UnnamedType("UnnamedError", (Exception,), {})("no")  # type: ignore[no-any-return]


RESPONSE = create_autospec(httpx2.Response, instance=True)
HOSTILE: dict[str, Exception] = {
    "autospec": AnyError(response=RESPONSE),
    "autospec of an error": AnyError(reason=create_autospec(OSError, instance=True), __cause__=Mock(spec=OSError)),
    "magic": EverythingError(MagicMock),
    "async magic": EverythingError(AsyncMock),
    "autospecs": EverythingError(lambda: create_autospec(int, instance=True)),
    "coroutine": AnyError(code=later),
    "raising": RaisingError(RuntimeError),
    "raising deeply": RaisingError(RecursionError),
    "unclassed": unclassed(),
    "claims to be a group": unclassed(ExceptionGroup),
    "claims to be permanent": unclassed(KeyboardInterrupt),
    "unclassed attributes": EverythingError(unclassed),
    "endless headers": AnyError(status=503, headers=Endless()),
    "raising dictionary": AnyError(response=Wilful({"ResponseMetadata": {"HTTPStatusCode": 503}}), headers=Wilful()),
    "raising key": AnyError(response={WilfulKey(): 1}, headers={WilfulKey(): 1, 5: 6, b"x": None, None: ()}),
    "huge": AnyError(status=HUGE, code=-HUGE, errno=HUGE, returncode=HUGE, bytes_done=HUGE, retry_after=HUGE, pos=HUGE),
    "not a number": AnyError(status_code=math.nan, retry_after=math.nan, details=[{"retryDelay": math.nan}]),
    "odd numbers": AnyError(status_code=OddNumber(503), retry_after=OddFloat(3), returncode=OddNumber(2)),
    "bytes": AnyError(status=b"503", code=b"\xff", headers=[(b"Retry-After", b"\xff")], sqlstate=b"\xff" * 5),
    "details": AnyError(details=[None, MagicMock(), {"retryDelay": "x"}, Wilful()]),
    "group": GroupError("two", [ValueError("a"), OSError("b")]),
    "unnamed": unnamed(),
    "raising cause": RaisingCauseError("no"),
    "bad methods": AnyError(code=lambda: 1 / 0, trailing_metadata=lambda: 1 / 0),
    "bad shapes": AnyError(response=7, meta="x", resp=[], errors=5, details=5, doc=5, pos="x", headers=8),
    "pairs": AnyError(status=429, headers=[("Retry-After", "3"), ("a", "b", "c"), None]),
    "surrogates": AnyError(sqlstate="\ud800" * 5, code="\ud800"),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_error_is_evidence_that_a_journal_can_keep(name: str) -> None:
    evidence = extract_evidence(HOSTILE[name])
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence
    assert classify(HOSTILE[name])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_error_is_a_failure_and_comes_out_as_it_is(name: str) -> None:
    error, tries = HOSTILE[name], []

    def fails() -> None:
        tries.append(1)
        raise error

    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable(max_retries=2, initial_delay=0.0, max_elapsed=1.0, breaker=None)(fails)
        told: list[object] = []
        service.bus.subscribe(FailureClassified, told.append)
        with pytest.raises(BaseException) as caught:  # which one is what the test asks
            call()
    assert caught.value is error
    assert len(told) == len(tries) > 0


def test_what_can_be_read_is_read_beside_what_cannot() -> None:
    response = create_autospec(httpx2.Response, instance=True)
    response.status_code, response.headers = 503, {"Retry-After": "7"}
    error = AnyError(response=response)
    assert (extract_evidence(error).status, extract_evidence(error).retry_after) == (503, 7.0)
    assert extract_evidence(HOSTILE["odd numbers"]).status == 503
    assert extract_evidence(HOSTILE["pairs"]).retry_after == 3.0
    assert extract_evidence(HOSTILE["autospec of an error"]).cause is None  # which only claims to be one
    assert [one.type for one in (extract_evidence(HOSTILE["group"]), extract_evidence(HOSTILE["raising cause"]))] == [
        f"{__name__}.GroupError",
        f"{__name__}.RaisingCauseError",
    ]


def test_a_number_that_no_journal_can_keep_is_no_evidence() -> None:
    assert [extract_evidence(AnyError(returncode=one)).exit_code for one in (MAX_WHOLE, HUGE)] == [MAX_WHOLE, None]


def test_the_cause_of_a_hostile_error_is_found_at_every_level() -> None:
    error: Exception = AnyError(status_code=404)
    for _ in range(LEVELS):
        outer = RaisingError(RuntimeError)
        outer.__cause__ = error
        error = outer
    evidence = extract_evidence(error)
    for _ in range(LEVELS):
        assert evidence.cause is not None
        evidence = evidence.cause
    assert evidence.status == 404


def test_a_body_is_not_read_for_its_headers() -> None:
    def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    assert (
        extract_evidence(AnyError(resp=body(), headers=body(), response=SimpleNamespace(headers=body()))).status is None
    )
