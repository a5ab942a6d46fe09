"""What the page says of a call: why, what happens next, what a person can do; in words that fit its buttons."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.journals.next_step import next_step
from adapters.journals.status import CallStatus, JournalStatus
from adapters.web.page_words import next_words, place_of, remedy_words, why_words
from recovery.policies.retry import PERSON
from recovery.policies.sentences import spoken
from tests.adapters.journals.test_find import call

STATES = ("running", "waiting", "paused", "left", "unreadable", "quarantined", "gave up", "rejected", "cancelled")


def told(one: CallStatus, *, is_written: bool = False) -> tuple[str, str]:
    status = JournalStatus(path="a", is_being_written=is_written, calls=(one,), circuits={}, unreadable=0)
    step = next_step(one, status, 0.0)
    return next_words(one, step), remedy_words(one, step)


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("is_resumable", [False, True])
def test_a_call_that_its_program_left_has_a_why_and_a_way_on(is_written: bool, is_resumable: bool):
    one = call("a-1", "left", is_resumable=is_resumable)
    assert why_words(one).startswith("its program ended before it was done")
    following, remedy = told(one, is_written=is_written)
    assert following
    assert "tart " in remedy
    assert ("ive it up" in remedy) == (is_written or not is_resumable)


def test_a_call_that_failed_before_its_program_ended_tells_of_both():
    one = call("a-1", "left", sentence="the disk is full", remedy=spoken().advice("left", "Free some space."))
    assert why_words(one) == "its program has ended; its latest failure: the disk is full"
    assert told(one) == ("goes on when its program is started again", "Free some space. Then start its program again.")


@pytest.mark.parametrize(
    ("waits_for", "place", "words"),
    [
        ("circuit open: download[example.org]", "example.org", "example.org to work again; one call tries it for all"),
        ("a.example:443 reachable", "a.example:443", "a.example to answer"),
        ("a.example:8188 reachable", "a.example:8188", "a.example:8188 to answer"),
        ("rate limit", "example.org", "example.org to take requests again"),
        ("rate limit: download[example.org]", "example.org", "example.org to take requests again"),
        ("an answer: token:hf.co", "token:hf.co", "the answer to the question above"),
        ("room for 6 GB at models", "room for 6 GB", "room for 6 GB at models"),
        (PERSON, "your decision", "your decision: it has no retries left"),
        ("a reachable; dinner", "a reachable; dinner", "a to answer, and for dinner"),
    ],
)
def test_a_wait_is_for_something_that_a_person_knows(waits_for: str, place: str, words: str):
    one = call("a-1", waits_for=waits_for)
    assert (place_of(one), told(one)[0]) == (place, f"waits for {words}")


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("permanent (Permanent)", "it would fail in the same way until its cause is gone"),
        ("out of retries (1)", "2 attempts failed, and no more are allowed"),
        ("out of time", "the time that it may take is over"),
        ("given up by hand: by the page", "it was given up by hand: by the page"),
        ("retry budget exhausted: fetch", "retry budget exhausted: fetch"),
        ("", "it has ended"),
    ],
)
def test_an_end_says_why_there_is_no_further_attempt(reason: str, expected: str):
    assert told(call("a-1", "gave up", attempt=2, reason=reason))[0] == f"nothing by itself: {expected}"


def test_a_call_that_runs_again_needs_nothing_more():
    for state in ("gave up", "rejected"):
        assert told(call("a-1", state, by="b-1", remedy="Start it again.")) == ("another call runs it again", "")
    assert told(call("a-1", "gave up", ordered=("again",), remedy="x")) == (
        "runs again at the next start, as ordered",
        "",
    )


def test_a_call_that_never_failed_says_why_it_waits():
    for waits_for in ("circuit open: download[example.org]", "rate limit: download[example.org]"):
        one = call("a-1", waits_for=waits_for)
        assert "example.org" in why_words(one)
        assert told(one)[1] == "Nothing needs to be done. It goes on by itself."
    assert why_words(call("a-1", waits_for="room for 6 GB")) == "nothing has failed: it waits before it starts"
    assert why_words(call("a-1", waits_for="rate limit", sentence="too many")) == "too many"


@pytest.mark.parametrize("state", STATES)
def test_no_words_have_ids_or_numbers_of_processes(state: str):
    about: dict[str, Any] = {"pid": 4711, "reason": "it ended its program 3 times"}
    for is_written in (False, True):
        words = (why_words(call("a-1", state, **about)), *told(call("a-1", state, **about), is_written=is_written))
        assert not any("a-1" in one or "4711" in one for one in words)
