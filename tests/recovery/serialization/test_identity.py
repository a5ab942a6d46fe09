"""What tells calls apart: their arguments, however they are passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from recovery.serialization.arguments import ArgumentCodec
from tests.recovery.serialization import annotated
from tests.recovery.serialization.annotated import Color, Job, Step, Task
from tests.recovery.serialization.values import VALUES, described


def two(a: Any, b: Any = 2, *rest: Any, last: Any = (), **others: Any) -> None: ...


def identity(*args: Any, **kwargs: Any) -> bytes:
    return ArgumentCodec(two).identity(args, kwargs)


@given(VALUES, VALUES)
def test_identities_are_equal_where_the_arguments_are(one: Any, other: Any) -> None:
    is_equal = described(one, in_order=False) == described(other, in_order=False)
    assert (identity(one) == identity(other)) == is_equal


@pytest.mark.parametrize(
    "one", VARIANTS := [1, 1.0, True, "1", b"1", Path("1"), [1], (1,), {1}, {"1": 1}, {1: 1}, None]
)
@pytest.mark.parametrize("other", VARIANTS)
def test_types_are_kept_apart(one: Any, other: Any) -> None:
    assert (identity(one) == identity(other)) == (one is other)
    assert (identity({"a": [one]}) == identity({"a": [other]})) == (one is other)


@given(VALUES, VALUES)
def test_it_does_not_matter_how_an_argument_is_passed(a: Any, b: Any) -> None:
    assert identity(a, b) == identity(a, b=b) == identity(b=b, a=a)


@given(VALUES)
def test_a_default_counts_as_passed(a: Any) -> None:
    assert identity(a) == identity(a, 2) == identity(a, last=()) == identity(a=a, b=2, last=())
    assert identity(a) != identity(a, 2.0)


def test_the_order_of_dicts_and_sets_does_not_count() -> None:
    assert identity({"a": {"x": 1, "y": 2}, "b": 0}) == identity({"b": 0, "a": {"y": 2, "x": 1}})
    assert identity({1: {8, 0}, 2: "x"}) == identity({2: "x", 1: {0, 8}})
    assert identity([1, 2]) != identity([2, 1])


def test_the_rest_of_the_arguments_counts() -> None:
    assert identity(1, 2, 3) != identity(1, 2, (3,)) != identity(1, 2)
    assert identity(1, c=1, d=2) == identity(1, d=2, c=1) != identity(1, c=2, d=1)
    assert identity(1, **{"$path": "x"}) != identity(1, **{"$path": Path("x")})


def test_objects_of_classes_count_by_what_they_hold() -> None:
    codec = ArgumentCodec(annotated.either)
    same = [codec.identity((Job("a", points={}, note={1, 8}),), {}), codec.identity((), {"job": Job("a", note={8, 1})})]
    assert same[0] == same[1]
    others = [codec.identity((one,), {}) for one in (Job("b"), Job("a", steps=(Step("s", Color.BLUE),)), Task("a"))]
    assert len({*same, *others}) == 4


@given(VALUES)
@example({"$path": "x"})
@example({"$set": {"$set": [2, 1]}, "b": 1})
def test_a_call_that_is_read_back_has_the_same_identity(value: Any) -> None:
    codec = ArgumentCodec(two)
    args, kwargs = codec.decoded(codec.encoded((value,), {"b": value}))
    assert codec.identity(args, kwargs) == codec.identity((value, value), {})


def test_a_default_that_cannot_be_journalled_does_not_count() -> None:
    codec = ArgumentCodec(annotated.plain)  # one of its defaults is a function
    assert codec.identity(("x",), {}) == codec.identity((), {"number": 1, "name": "x"})


def test_a_call_that_does_not_fit_raises_a_type_error() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        identity()


def test_an_argument_that_cannot_be_journalled_has_no_identity() -> None:
    for argument in (iter([1]), [Task("a")], float("nan")):
        with pytest.raises(ValueError, match="argument 'a' is a"):
            identity(argument)


def test_an_argument_of_another_class_than_annotated_has_no_identity() -> None:
    with pytest.raises(ValueError, match="argument 'job' is a dict where Job is annotated"):
        ArgumentCodec(annotated.one).identity(({"name": "a"},), {})


def test_a_callable_without_a_signature_takes_arguments_as_they_are() -> None:
    codec = ArgumentCodec(max)
    assert codec.identity((1, 2), {}) == codec.identity((1, 2), {}) != codec.identity((2, 1), {})
