from __future__ import annotations

import json
import math

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
    assert encode(CircuitClosed(at=1.5, operation="fetch")) == CLOSED


def test_what_is_as_usual_is_left_out() -> None:
    assert set(json.loads(encode(GaveUp(at=0.0, call="c")))) == {"event", "at", "call"}


def test_an_event_is_decoded_from_text_too() -> None:
    assert decode(CLOSED.decode()) == CircuitClosed(at=1.5, operation="fetch")


def test_evidence_travels_inside_its_event() -> None:
    event = FailureClassified(
        at=0.0, call="c", category=Category.LOST, evidence=Evidence(type="X", kinds=("Y", "Z"), exit_code=-9)
    )
    assert decode(encode(event)) == event


def test_arguments_travel_byte_for_byte() -> None:
    event = OperationStarted(at=0.0, call="c", arguments=msgspec.Raw(b'[[1, 2.50], {"a" : null}]'))
    assert bytes(decode(encode(event)).arguments) == b'[[1, 2.50], {"a" : null}]'  # type: ignore[attr-defined]


def test_no_arguments_are_not_null_arguments() -> None:
    nothing, null = (
        encode(OperationStarted(at=0.0, call="c", **one)) for one in ({}, {"arguments": msgspec.Raw(b"null")})
    )
    assert decode(nothing) != decode(null)


def test_a_live_exception_stays_in_its_process() -> None:
    with pytest.raises(CodecError, match="OperationFailed cannot leave"):
        encode(OperationFailed(at=0.0, call="c", error=OSError()))


def test_every_other_event_may_leave() -> None:
    assert set(WIRE_EVENTS) == set(EVENTS) - {OperationFailed}


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
    ],
)
def test_other_bytes_are_no_event(no_event: bytes) -> None:
    with pytest.raises(CodecError, match="not an event"):
        decode(no_event)


def test_an_error_says_where_it_is_wrong() -> None:
    with pytest.raises(CodecError, match=r"\$\.at"):
        decode(b'{"event":"CircuitClosed","at":"noon"}')


def test_nesting_without_end_is_no_event() -> None:
    with pytest.raises(CodecError):
        decode(b'{"event":"CircuitClosed","at":0,"mood":' + b"[" * 100_000)


def test_text_that_is_no_unicode_is_no_event() -> None:
    with pytest.raises(CodecError):
        decode('{"event":"CircuitClosed","at":0,"operation":"\udcff"}')


def survives(event: Event) -> bool:
    """Whether *event* comes back as it was, or is refused: what must not happen is that it changes on the way."""
    try:
        data = encode(event)
    except CodecError:
        return True
    return decode(data) == event


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_a_number_that_json_lacks_is_not_written_as_another(number: float) -> None:
    assert survives(CallRejected(at=0.0, call="c", retry_after=number))


def test_numbers_deep_inside_are_not_written_as_others_either() -> None:
    evidence = Evidence(type="x.E", cause=Evidence(type="x.F", retry_after=math.inf))
    assert survives(FailureClassified(at=0.0, call="c", category=Category.LOST, evidence=evidence))


def test_null_in_what_a_user_saved_is_no_missing_number() -> None:
    assert survives(CheckpointSaved(at=0.0, call="c", data=msgspec.Raw(b'{"offset":null}')))


def test_a_park_without_limit_can_be_read_again() -> None:
    assert survives(Parked(at=0.0, call="c", after=math.inf))


def test_a_file_name_that_is_no_unicode_is_not_an_odd_error() -> None:
    assert survives(GaveUp(at=0.0, call="c", reason="no such file: \udcff.bin"))


def test_an_event_that_decode_does_not_know_is_not_written() -> None:
    with pytest.raises(CodecError):
        encode(Event(at=0.0))
