"""Laws of the codec: every event survives the journal, and damaged bytes never decode to another event."""

from __future__ import annotations

from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from events.codec import WIRE_EVENTS, decode, encode
from events.errors import CodecError
from events.event import Event
from events.evidence import Category, Evidence, Remedy, Room
from events.operation_events import FailureClassified
from events.recorded import Recorded

texts = st.one_of(st.sampled_from(["", "null", '"', "\x00", "\u2028", "\U0001f600"]), st.text(max_size=8))
json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
simple: dict[object, SearchStrategy[Any]] = {
    str: texts,
    bytes: st.binary(max_size=100),
    int: st.one_of(st.sampled_from([0, -1, 2**63 - 1]), st.integers(-(2**63), 2**63 - 1)),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
    Category: st.sampled_from(Category),
    msgspec.Raw: json.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
    Remedy: st.deferred(lambda: structs(Remedy)),
    Recorded: st.deferred(lambda: structs(Recorded)),
    Room: st.deferred(lambda: structs(Room)),
    Evidence: st.deferred(lambda: evidences),  # its cause is evidence too
    FailureClassified: st.deferred(lambda: structs(FailureClassified)),
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
}


def values(kind: Any) -> SearchStrategy[Any]:
    """Any value of a field's type, so that new events and fields are covered."""
    if get_origin(kind) is UnionType:
        return st.one_of(*map(values, get_args(kind)))
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    return simple[kind]


def structs(kind: type[msgspec.Struct]) -> SearchStrategy[Any]:
    """Structs of that type, some fields left at their defaults."""
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}
    optional = {field.name: fields.pop(field.name) for field in msgspec.structs.fields(kind) if not field.required}
    return st.fixed_dictionaries(fields, optional=optional).map(
        lambda given: kind(**(_fitting(given) if kind is Remedy else given))
    )


def _fitting(given: dict[str, Any]) -> dict[str, Any]:
    """*given*, with choices for a choice alone, as a remedy wants them."""
    if given.get("kind") == "choice":
        return {**given, "choices": given.get("choices") or ("yes",)}
    return {**given, "choices": ()} if "choices" in given else given


evidences = structs(Evidence)
events = st.sampled_from(WIRE_EVENTS).flatmap(structs)


@pytest.mark.parametrize("kind", WIRE_EVENTS)
@settings(max_examples=25)
@given(st.data())
def test_an_event_survives_a_round_trip(kind: type[Event], data: st.DataObject):
    event = data.draw(structs(kind))
    back = decode(encode(event))
    assert type(back) is kind
    assert back == event


@given(events)
def test_an_event_is_encoded_in_one_line(event: Event):
    assert encode(event).splitlines() == [encode(event)]


@given(events, st.data())
def test_a_torn_event_does_not_decode(event: Event, data: st.DataObject):
    whole = encode(event)
    with pytest.raises(CodecError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(events, st.data())
def test_a_wrong_byte_gives_an_event_or_a_codec_error(event: Event, data: st.DataObject):
    wrong = bytearray(encode(event))
    wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        assert isinstance(decode(bytes(wrong)), Event)
