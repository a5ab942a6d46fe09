from __future__ import annotations

import json
import math

import msgspec
import pytest

from events.circuit_events import CircuitClosed
from events.codec import WIRE_FACTS, decode, encode
from events.errors import CodecError
from events.event import Fact
from events.evidence import Category, Evidence
from events.kinds import FACTS
from events.operation_events import (
    CallRejected,
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationFailed,
    OperationStarted,
    Parked,
)

CLOSED = b'{"fact":"CircuitClosed","at":1.5,"operation":"fetch"}'


def test_a_fact_is_one_json_object_that_names_its_kind() -> None:
    assert encode(CircuitClosed(at=1.5, operation="fetch")) == CLOSED


def test_what_is_as_usual_is_left_out() -> None:
    assert set(json.loads(encode(GaveUp(at=0.0, call="c")))) == {"fact", "at", "call"}


def test_a_fact_is_decoded_from_text_too() -> None:
    assert decode(CLOSED.decode()) == CircuitClosed(at=1.5, operation="fetch")


def test_evidence_travels_inside_its_fact() -> None:
    fact = FailureClassified(
        at=0.0, call="c", category=Category.LOST, evidence=Evidence(type="X", kinds=("Y", "Z"), exit_code=-9)
    )
    assert decode(encode(fact)) == fact


def test_arguments_travel_byte_for_byte() -> None:
    fact = OperationStarted(at=0.0, call="c", arguments=msgspec.Raw(b'[[1, 2.50], {"a" : null}]'))
    assert bytes(decode(encode(fact)).arguments) == b'[[1, 2.50], {"a" : null}]'  # type: ignore[attr-defined]


def test_no_arguments_are_not_null_arguments() -> None:
    nothing, null = (
        encode(OperationStarted(at=0.0, call="c", **one)) for one in ({}, {"arguments": msgspec.Raw(b"null")})
    )
    assert decode(nothing) != decode(null)


def test_a_live_exception_stays_in_its_process() -> None:
    with pytest.raises(CodecError, match="OperationFailed cannot leave"):
        encode(OperationFailed(at=0.0, call="c", error=OSError()))


def test_every_other_fact_may_leave() -> None:
    assert set(WIRE_FACTS) == set(FACTS) - {OperationFailed}


def test_what_a_newer_release_adds_is_passed_over() -> None:
    assert decode(b'{"fact":"CircuitClosed","at":1.5,"mood":{"is":"good"}}') == CircuitClosed(at=1.5)


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"at":1.5}',
        b'{"fact":"CircuitClosed"}',
        b'{"fact":"CircuitClosed","at":null}',
        b'{"fact":"OperationFailed","at":0,"call":"c","error":"e"}',
        b'{"fact":"Fact","at":0}',
        b'{"fact":"NeverHeardOf","at":0}',
        b'{"fact":"CircuitClosed","at":0,"operation":"\xff"}',
        CLOSED[:-1],
        CLOSED + CLOSED,
    ],
)
def test_rubbish_is_no_fact(rubbish: bytes) -> None:
    with pytest.raises(CodecError, match="not a fact"):
        decode(rubbish)


def test_an_error_says_where_it_is_wrong() -> None:
    with pytest.raises(CodecError, match=r"\$\.at"):
        decode(b'{"fact":"CircuitClosed","at":"noon"}')


def test_nesting_without_end_is_no_fact() -> None:
    with pytest.raises(CodecError):
        decode(b'{"fact":"CircuitClosed","at":0,"mood":' + b"[" * 100_000)


def test_text_that_is_no_unicode_is_no_fact() -> None:
    with pytest.raises(CodecError):
        decode('{"fact":"CircuitClosed","at":0,"operation":"\udcff"}')


def survives(fact: Fact) -> bool:
    """Whether *fact* comes back as it was, or is refused: what must not happen is that it changes on the way."""
    try:
        data = encode(fact)
    except CodecError:
        return True
    return decode(data) == fact


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


def test_a_fact_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(CodecError):
        encode(Fact(at=0.0))
