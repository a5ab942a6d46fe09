from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from events.circuit_events import CircuitClosed
from events.codec import WIRE_EVENTS, decode, encode
from events.errors import CodecError
from events.event import Event
from events.evidence import Category, Evidence
from events.kinds import EVENTS
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationFailed,
    OperationStarted,
    Parked,
)

CLOSED = b'{"event":"CircuitClosed","at":1.5,"operation":"fetch"}'


def test_an_event_is_one_json_object_that_names_its_kind() -> None:
    event = CircuitClosed(at=1.5, operation="fetch")
    assert encode(event) == CLOSED
    assert decode(CLOSED) == decode(CLOSED.decode()) == event


def test_what_is_as_usual_is_left_out() -> None:
    assert set(json.loads(encode(GaveUp(at=0.0, call="c")))) == {"event", "at", "call"}


def test_arguments_travel_byte_for_byte() -> None:
    event = OperationStarted(at=0.0, call="c", arguments=msgspec.Raw(b'[[1, 2.50], {"a" : null}]'))
    assert bytes(decode(encode(event)).arguments) == b'[[1, 2.50], {"a" : null}]'  # type: ignore[attr-defined]


def test_no_arguments_are_not_null_arguments() -> None:
    nothing, null = (
        encode(OperationStarted(at=0.0, call="c", **one)) for one in ({}, {"arguments": msgspec.Raw(b"null")})
    )
    assert decode(nothing) != decode(null)


def test_only_a_live_exception_stays_in_its_process() -> None:
    assert set(WIRE_EVENTS) == set(EVENTS) - {OperationFailed}
    with pytest.raises(CodecError, match="OperationFailed cannot leave"):
        encode(OperationFailed(at=0.0, call="c", error=OSError()))
    with pytest.raises(CodecError):  # no kind of its own
        encode(Event(at=0.0))


def test_what_a_newer_release_adds_is_passed_over() -> None:
    assert decode(b'{"event":"CircuitClosed","at":1.5,"mood":{"is":"good"}}') == CircuitClosed(at=1.5)


@pytest.mark.parametrize(
    "no_event",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"at":1.5}',
        b'{"event":"CircuitClosed"}',
        b'{"event":"CircuitClosed","at":null}',
        b'{"event":"OperationFailed","at":0,"call":"c","error":"e"}',
        b'{"event":"Event","at":0}',
        b'{"event":"NeverHeardOf","at":0}',
        b'{"event":"CircuitClosed","at":0,"operation":"\xff"}',
        CLOSED[:-1],
        CLOSED + CLOSED,
        pytest.param(b'{"event":"CircuitClosed","at":0,"mood":' + b"[" * 100_000, id="nested without end"),
        pytest.param('{"event":"CircuitClosed","at":0,"operation":"\udcff"}', id="no Unicode"),
    ],
)
def test_other_bytes_are_no_event(no_event: bytes | str) -> None:
    with pytest.raises(CodecError, match="not an event"):
        decode(no_event)


def test_an_error_says_where_it_is_wrong() -> None:
    with pytest.raises(CodecError, match=r"\$\.at"):
        decode(b'{"event":"CircuitClosed","at":"noon"}')


def survives(event: Event) -> bool:
    """Whether *event* comes back as it was, or is refused: what must not happen is that it changes on the way."""
    try:
        data = encode(event)
    except CodecError:
        return True
    return decode(data) == event


def lost(**evidence: Any) -> FailureClassified:
    return FailureClassified(at=0.0, call="c", category=Category.LOST, evidence=Evidence(type="x.E", **evidence))


@pytest.mark.parametrize(
    "event",
    [
        CallRejected(at=0.0, call="c", retry_after=math.inf),
        CallRejected(at=0.0, call="c", retry_after=math.nan),
        lost(cause=Evidence(type="x.F", retry_after=math.inf)),
        lost(kinds=("Y", "Z"), exit_code=-9),
        CheckpointSaved(at=0.0, call="c", data=msgspec.Raw(b'{"offset":null}')),
        Parked(at=0.0, call="c", after=math.inf),
        GaveUp(at=0.0, call="c", reason="no such file: \udcff.bin"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_number_that_json_lacks_is_not_written_as_another(event: Event) -> None:
    assert survives(event)
