"""Laws of the names of a cluster: what is distinct stays distinct on the servers, and comes back as it was."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from adapters.nats.names import (
    ANY,
    MAX_KEY,
    MAX_NAME,
    PRIORITIES,
    Lane,
    Name,
    Subjects,
    checked,
    decode,
    encode,
    name_of,
    parse,
)

TOKEN = re.compile(r"[-/_=.a-zA-Z0-9]+")  # what a bucket takes as a key
AWKWARD = [
    ".",
    " ",
    "[",
    "]",
    ":",
    ">",
    "*",
    "\0",
    "~",
    "/",
    "=",
    "%",
    "_",
    "-",
    "=2E",
    "\n",
    "a.b",
    "A",
    "a",
    "é",
    "🙂",
]
TEXTS = st.text(min_size=1, max_size=30) | st.lists(st.sampled_from(AWKWARD), min_size=1, max_size=8).map("".join)
KEYS = st.just("") | TEXTS
LANES = st.builds(Lane, TEXTS, st.sampled_from(PRIORITIES), KEYS)
SUBJECTS = Subjects()


@given(TEXTS)
@example("~0011223344556677")
@example("=")
@example("_")
def test_a_text_comes_back_from_its_token(text: str):
    assert decode(encode(text)) == text


@given(TEXTS)
@example("*")
@example(">")
@example("=")
def test_a_token_is_valid_everywhere(text: str):
    token = encode(text)
    assert TOKEN.fullmatch(token)
    assert "." not in token
    assert "/" not in token
    assert token not in (ANY, "*", ">")


@given(TEXTS, TEXTS)
@example("a", "A")
@example("a.b", "a=2Eb")
@example("é", "e\u0301")
def test_distinct_texts_make_distinct_tokens(one: str, other: str):
    assume(one != other)
    assert encode(one) != encode(other)


@given(st.text(max_size=12) | st.text("=0123456789abcdefABCDEF ~x", max_size=12))
@example("=2e")  # = 2E, once more
@example("=61")  # an "a" is not escaped
@example("= 4")
@example("=C3")
@example("\ud800")
def test_a_token_that_encode_does_not_make_is_refused(token: str):
    try:
        text = decode(token)
    except ValueError:
        return
    assert encode(text) == token


@given(TEXTS, KEYS)
@example("render", "~0011223344556677")
def test_a_call_is_parsed_from_its_id(operation: str, key: str):
    name = (
        name_of(operation, key) if len(encode(operation)) <= MAX_NAME else Name(operation, key, "" if key else "0" * 16)
    )
    assert parse(name.call) == name
    assert SUBJECTS.call_of(SUBJECTS.of("call", name.call)) == name.call


@given(TEXTS, KEYS, LANES)
def test_a_queue_message_tells_its_call_and_is_in_its_lane(operation: str, key: str, lane: Lane):
    subject = SUBJECTS.queue(lane, Name(operation, key, "" if key else "0" * 16).call)
    assert subject.startswith(SUBJECTS.lane(lane).removesuffix("*"))
    assert subject.count(".") == SUBJECTS.lane(lane).count(".")


@given(TEXTS, TEXTS, KEYS, KEYS)
@example("a", "a/b", "b/c", "c")
@example("a", "a.b", "b.c", "c")
def test_distinct_calls_share_no_subject(operation: str, other: str, key: str, other_key: str):
    one, two = Name(operation, key, "" if key else "0" * 16), Name(other, other_key, "" if other_key else "0" * 16)
    assume(one != two)
    assert one.call != two.call
    assert SUBJECTS.of("call", one.call) != SUBJECTS.of("call", two.call)


@given(LANES, LANES)
@example(Lane("a", node=""), Lane("a", node="="))
@example(Lane("a", node=""), Lane("a", node="_"))
@example(Lane("a", node=""), Lane("a", node="~"))
@example(Lane("b", node="a"), Lane("a", node="b"))
def test_distinct_lanes_have_distinct_consumers(one: Lane, other: Lane):
    assume(one != other)
    assert one.consumer != other.consumer
    assert SUBJECTS.lane(one) != SUBJECTS.lane(other)


@given(LANES)
def test_the_name_of_a_consumer_is_valid(lane: Lane):
    assert re.fullmatch(r"[-_=~a-zA-Z0-9]+", lane.consumer)  # the servers refuse . * > / \ and blanks


def test_the_longest_consumer_has_at_most_255_bytes():
    longest = "n" * MAX_NAME
    assert len(Lane(longest, "normal", longest).consumer) <= 255


@given(st.lists(TEXTS, min_size=2, max_size=2, unique=True))
def test_two_random_ids_are_two_calls(texts: list[str]):
    operation = texts[0][:10]
    assert name_of(operation).call != name_of(operation).call


@pytest.mark.parametrize(
    ("operation", "key", "message"),
    [
        ("render", "k" * 10_000, "the idempotency key of a call of render makes 10000 bytes of a subject, and 240 are"),
        (
            "render",
            "🙂" * 21,
            "makes 252 bytes of a subject, and 240 are allowed: pass a shorter one, a hash of it, say",
        ),
        ("r" * 10_000, "", "the name of the operation makes 10000 bytes of a subject, and 120 are allowed"),
        ("", "", "the name of the operation is empty"),
        ("render", "\ud800" * 10_000, "cannot be encoded: surrogates not allowed"),
    ],
)
def test_what_does_not_fit_into_a_subject_is_refused(operation: str, key: str, message: str):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        name_of(operation, key)
    assert len(str(caught.value)) < 400


def test_what_just_fits_is_taken():
    assert name_of("r" * MAX_NAME, "k" * MAX_KEY).key == "k" * MAX_KEY
    assert checked("the name of a node", "🙂" * 10) == "=F0=9F=99=82" * 10


@pytest.mark.parametrize(
    "call",
    [
        "",
        "render",
        "render/",
        "/a",
        "render/a/b",
        "render/=",
        "render/~",
        "render/~0123",
        "render/~001122334455667X",
        "a b/c",
    ],
)
def test_what_is_no_id_of_a_call_is_refused(call: str):
    with pytest.raises(ValueError, match="is no id of a cluster's call: those look like render/order-17"):
        parse(call)


@pytest.mark.parametrize(
    "prefix", ["", "a.b", "a b", "*", ">", "é", "_INBOX", "-a", "$JS", "a-seen", "a-events", "a" * 121]
)
def test_a_prefix_that_would_reach_farther_is_refused(prefix: str):
    with pytest.raises(ValueError, match="prefix of a cluster"):
        Subjects(prefix)


def test_distinct_prefixes_share_no_stream():
    prefixes = ["a", "a-b", "a-seen-b", "a_seen", "A"]
    own = {prefix: {f"{prefix}{rest}" for rest in ("", "-seen", "-events", "-shared", "-nodes")} for prefix in prefixes}
    assert all(Subjects(prefix).prefix == prefix for prefix in prefixes)
    assert all(own[one].isdisjoint(own[other]) for one, other in product(prefixes, repeat=2) if one != other)
