"""What comes back from JSON as it was, and what is refused."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recovery.serialization.annotations import hints_of
from recovery.serialization.results import ResultCodec, decoded, encoded
from recovery.serialization.writing import MAX_BYTES
from tests.recovery.serialization.values import VALUES, described


@given(VALUES)
def test_any_value_comes_back_with_its_types(value: Any) -> None:
    assert described(decoded(encoded(value))) == described(value)


@pytest.mark.parametrize(
    "value",
    [
        ["text", 1, 1.5, None, True, [1, [2]], {"a": {"b": [None]}}],
        "ünïcode \u2028",
        2**80,
        {"$path": "x"},
        {"$dict": [["$path", "x"]]},
        {"$secret": "env:A"},
        {"$secret": "env:A", "b": 1},
        {"$set": {"status": "done"}, "$inc": {"n": 1}},
        {"a": {"$unknown": []}},
        {1: "a", "1": "b", None: "c", (1, 2): "d", Path("x"): "e"},
        datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001  # the hour that comes twice, as the local clock says it
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        Decimal("1.00"),
        Decimal("NaN"),
        {frozenset({(1, b"\xff")})},
    ],
)
def test_what_looks_like_a_tag_or_like_another_value_comes_back(value: Any) -> None:
    assert described(decoded(encoded(value))) == described(value)


def test_plain_data_is_written_without_tags() -> None:
    assert encoded(["a", {"b": 1}]) == b'["a",{"b":1}]'
    assert encoded({"path": [Path("/m"), (1, b"x")]}) == b'{"path":[{"$path":"/m"},{"$tuple":[1,{"$bytes":"eA=="}]}]}'


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "the result is a float that is nan, which JSON cannot hold: use None or a text"),
        (
            [-math.inf],
            "the result is a list that holds a float that is -inf, which JSON cannot hold: use None or a text",
        ),
        (object(), "the result is an object, which cannot be journalled: return plain data"),
        (PurePosixPath("x"), "the result is a pathlib.PurePosixPath, which cannot be journalled: return plain data"),
        ("\ud800", "the result is a str with a lone surrogate, which JSON cannot hold: use os.fsencode() of it"),
        (
            OrderedDict(a=1),
            "the result is a collections.OrderedDict, which would come back as dict: pass dict(...) of it",
        ),
        (
            datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            "the result is a datetime.datetime with a zoneinfo.ZoneInfo, which cannot be journalled: convert it to UTC",
        ),
        (
            datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")),
            "the result is a datetime.datetime that would come back changed: return plain data",
        ),
        (CYCLE, "the result is a list that is nested too deeply, or holds itself: return plain data"),
    ],
)
def test_what_would_not_come_back_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:
        encoded(value)
    assert str(refused.value) == message


def test_what_takes_too_much_is_refused_and_a_little_less_is_not() -> None:
    assert len(encoded("x" * (MAX_BYTES - 2))) == MAX_BYTES
    with pytest.raises(ValueError, match=f"{MAX_BYTES + 1} bytes"):
        encoded("x" * (MAX_BYTES - 1))


# Files that were not written here


TAGS = [
    "$tuple", "$set", "$frozenset", "$dict", "$object", "$enum", "$secret", "$path", "$datetime", "$date", "$time",
    "$timedelta", "$uuid", "$decimal", "$bytes", "$other", "name",
]  # fmt: skip
HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TAGS), inner, max_size=2),
)


@dataclass
class Point:
    name: Any

    def __post_init__(self) -> None:
        if not self.name:
            raise KeyError(self.name)


@given(HOSTILE.map(msgspec.json.encode) | st.binary(), st.sampled_from([(), (Point,), hints_of(list[Point])]))
def test_a_planted_value_is_read_or_refused(data: bytes, hints: tuple[Any, ...]) -> None:
    with suppress(ValueError):  # msgspec.DecodeError is one
        decoded(data, hints)


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"$tuple":[' * 5_000 + b"]}" * 5_000])
def test_a_planted_depth_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decoded(data)


def test_no_class_is_looked_up_by_a_name_in_the_file() -> None:
    for data in (b'{"$object":{"name":"x"}}', b'{"$enum":"x"}', b'{"$Point":{"name":"x"}}'):
        with pytest.raises(ValueError, match=r"cannot be read: no class for it is annotated|is unknown"):
            decoded(data)
    assert decoded(b'{"$object":{"name":"x"}}', (Point,)) == Point("x")


# By the annotation of the function


def make() -> list[Point]:
    return [Point("a")]


def make_anything() -> Any: ...


def test_a_result_comes_back_by_the_annotation_of_the_function() -> None:
    codec = ResultCodec(make)
    assert codec.decoded(codec.encoded(make())) == make()
    with pytest.raises(ValueError, match="annotate the function's result with Point, so that it can be read back"):
        ResultCodec(make_anything).encoded(Point("a"))
    with pytest.raises(ValueError, match=r"cannot be read back: .*; give the operation another version"):
        codec.decoded(b'[{"$object":{"other":1}}]')
