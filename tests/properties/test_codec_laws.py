from __future__ import annotations

from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from events.codec import WIRE_FACTS, decode, encode
from events.errors import CodecError
from events.event import NOTHING, Fact
from events.evidence import Category, Evidence
from events.operation_events import OperationResumed, OperationStarted, Recorded

texts = st.one_of(st.sampled_from(["", "null", '"', "\x00", "\u2028", "\U0001f600"]), st.text(max_size=8))
json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)
simple: dict[object, SearchStrategy[Any]] = {
    str: texts,
    int: st.one_of(st.sampled_from([0, -1, 2**63 - 1]), st.integers(-(2**63), 2**63 - 1)),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    NoneType: st.none(),
    Category: st.sampled_from(Category),
    msgspec.Raw: json.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
    Recorded: st.deferred(lambda: structs(Recorded)),
    Evidence: st.deferred(lambda: evidences),  # it may have a cause of its own kind
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
}


def values(kind: Any) -> SearchStrategy[Any]:
    """Any value of a field's type: a new fact, or a new field, is covered by itself."""
    if get_origin(kind) is UnionType:
        return st.one_of(*map(values, get_args(kind)))
    return simple[kind]


def structs(kind: type[msgspec.Struct]) -> SearchStrategy[Any]:
    """Structs of that kind, some fields left to their defaults."""
    fields = {field.name: values(field.type) for field in msgspec.structs.fields(kind)}
    optional = {field.name: fields.pop(field.name) for field in msgspec.structs.fields(kind) if not field.required}
    return st.fixed_dictionaries(fields, optional=optional).map(lambda given: kind(**given))


evidences = structs(Evidence)
facts = st.sampled_from(WIRE_FACTS).flatmap(structs)


@pytest.mark.parametrize("kind", WIRE_FACTS)
@settings(max_examples=25)
@given(st.data())
def test_a_fact_comes_back_as_it_went(kind: type[Fact], data: st.DataObject) -> None:
    fact = data.draw(structs(kind))
    back = decode(encode(fact))
    assert type(back) is kind
    assert back == fact


@given(facts)
def test_a_fact_is_one_line(fact: Fact) -> None:
    assert encode(fact).splitlines() == [encode(fact)]


@given(facts)
def test_what_comes_back_is_written_as_before(fact: Fact) -> None:
    assert encode(decode(encode(fact))) == encode(fact)


@given(facts, st.data())
def test_a_torn_fact_is_no_fact(fact: Fact, data: st.DataObject) -> None:
    whole = encode(fact)
    with pytest.raises(CodecError):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(facts, st.data())
def test_a_fact_with_a_wrong_byte_is_a_fact_or_a_codec_error(fact: Fact, data: st.DataObject) -> None:
    wrong = bytearray(encode(fact))
    wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        assert isinstance(decode(bytes(wrong)), Fact)


@given(st.sampled_from([OperationStarted, OperationResumed]).flatmap(structs))
def test_no_arguments_stay_no_arguments(fact: Any) -> None:
    assert (decode(encode(fact)).arguments == NOTHING) is (fact.arguments == NOTHING)  # type: ignore[attr-defined]
