"""Values that JSON can hold with tags, and a description of a value that differs where the value or a type does."""

from __future__ import annotations

from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from recovery.serialization.secret import Secret

ZONES = st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
WORDS = st.text() | st.sampled_from(["$path", "$dict", "$object", "$secret", "$", "a"])

LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).map(Path),
    st.datetimes(timezones=st.none() | ZONES),
    st.dates(),
    st.times(timezones=st.none() | ZONES),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.binary(),
    st.just(Secret("env:HF_TOKEN")),
    # They are equal, or look alike, and must not be confused.
    st.sampled_from([1, 1.0, True, "1", b"1", 0, 0.0, -0.0, False, "", [], (), {}, Path("1"), {"$path": "1"}]),
)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


KEYS = st.recursive(
    LEAVES.filter(_is_hashable), lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4
)

VALUES = st.recursive(
    LEAVES | st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.tuples(inner, inner),
        st.dictionaries(WORDS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


def described(value: Any, *, in_order: bool = True) -> Any:
    """Types and representations of *value* and all that it holds; the order of a dict counts if *in_order*."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, [described(one, in_order=in_order) for one in value]
    if kind in (set, frozenset):
        return kind.__name__, sorted((described(one, in_order=in_order) for one in value), key=repr)
    if kind is dict:
        entries = [[described(one, in_order=in_order) for one in entry] for entry in value.items()]
        return kind.__name__, entries if in_order else sorted(entries, key=repr)
    return kind.__name__, repr(value)
