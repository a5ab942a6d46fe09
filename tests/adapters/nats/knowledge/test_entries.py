"""What nodes tell each other: keys, JSON, lifetimes, and which of two entries stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.nats.knowledge.entries import (
    KEPT,
    LATE,
    MAX_ENTRY,
    Entry,
    Opened,
    Paused,
    Probing,
    Recovered,
    Used,
    from_bytes,
    is_over,
    key_of,
    lifetime,
    merged,
    newly_used,
    news_of_circuit,
    news_of_limit,
    released,
    to_bytes,
)
from events.circuit_events import CircuitClosed, CircuitOpened
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.policies.retry import LIMITED

NOW = 1_800_000_000.0
ABOUT: dict[str, Any] = {"operation": "download", "key": "hf.co:443", "node": "gpu-a", "run": "a1"}
OTHER: dict[str, Any] = {**ABOUT, "node": "gpu-b", "run": "b1"}

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
parts = st.fixed_dictionaries({"operation": names, "key": names, "node": names.filter(bool), "run": st.just("a1")})
times = st.floats(NOW - 100.0, NOW + 100.0)


def opened(after: float = 30.0, times: int = 1, **about: Any) -> Opened:
    return Opened(**{**ABOUT, **about}, until=NOW + after, times=times, category=Category.TRANSIENT, cause="reset")


def probing(after: float = 10.0, **about: Any) -> Probing:
    return Probing(**{**ABOUT, **about}, until=NOW + after)


def entries(about: dict[str, Any], until: float, number: int) -> list[Entry]:
    return [
        Opened(**about, until=until, times=number + 1, category=Category.TRANSIENT, cause="é"),
        Probing(**about, until=until),
        Recovered(**about),
        Paused(**about, until=until),
        Used(**about, taken=number, successes=2, tokens=-1.5, at=until),
    ]


@given(parts, times, st.integers(0, 9), st.integers(0, 4))
def test_an_entry_comes_back_as_it_was_told(about: dict[str, Any], until: float, number: int, kind: int) -> None:
    entry = entries(about, until, number)[kind]
    assert from_bytes(key_of(entry), to_bytes(entry)) == entry


@given(st.tuples(parts, parts))
@example(({**ABOUT, "operation": "a.b", "key": "c"}, {**ABOUT, "operation": "a", "key": "b.c"}))
@example(({**ABOUT, "operation": "a", "key": ""}, {**ABOUT, "operation": "", "key": "a"}))
def test_distinct_parts_have_distinct_keys_that_the_servers_take(both: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, other = both
    keys = [key_of(Paused(**about, until=NOW)) for about in both]
    is_same = (one["operation"], one["key"]) == (other["operation"], other["key"])
    assert (keys[0] == keys[1]) is is_same
    for key in keys:
        assert all(char.isascii() and (char.isalnum() or char in "-_=.") for char in key)
        assert len(key) < 600
        assert ".." not in key


def test_a_key_that_is_too_long_has_a_digest_in_its_place() -> None:
    keys = {key_of(Paused(**{**ABOUT, "key": "x" * length}, until=NOW)) for length in range(239, 300)}
    assert len(keys) == 61


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"null", b'{"type":"opened"}', b'{"type":"rm -rf"}', b"\xff",
        to_bytes(opened()).replace(b"hf.co", b"hf.com"),
        to_bytes(opened()).replace(b"{", b'{"more":1,', 1),
        to_bytes(opened()).replace(b"1800000030.0", b"1e999"),
        to_bytes(opened()) + b" " * MAX_ENTRY,
    ],
)  # fmt: skip
def test_an_entry_of_another_form_is_refused(data: bytes) -> None:
    assert from_bytes(key_of(opened()), data) is None


def test_an_entry_that_is_too_long_is_not_told() -> None:
    with pytest.raises(ValueError, match="is not told"):
        to_bytes(opened(key="x" * MAX_ENTRY))


@pytest.mark.parametrize(
    ("mine", "theirs", "stands"),
    [
        (opened(30.0), None, True),
        (opened(-1.0), None, False),  # told too late
        (opened(30.0), Recovered(**OTHER), True),
        (opened(30.0), opened(20.0, **OTHER), True),
        (opened(30.0), opened(30.0, **OTHER), False),
        (opened(20.0), opened(30.0, **OTHER), False),
        (opened(90.0), opened(30.0, 2, **OTHER), False),
        (opened(60.0, 2), opened(90.0, **OTHER), True),
        (opened(60.0, 2), probing(**ABOUT), True),  # its own probe failed
        (opened(0.0), probing(**ABOUT), True),  # its own probe is given back
        (opened(60.0, 2), probing(**OTHER), False),
        (opened(0.0), probing(-0.1, **OTHER), True),  # that node is gone
        (probing(), None, True),
        (probing(), opened(30.0, **OTHER), False),
        (probing(), opened(LATE / 2, **OTHER), True),
        (probing(), probing(5.0, **OTHER), False),
        (probing(), probing(-0.1, **OTHER), True),
        (probing(20.0), probing(5.0, **ABOUT), True),
        (probing(), Recovered(**OTHER), False),
        (probing(), Recovered(**ABOUT), True),  # it has opened again, and its break was over before it was told
        (Recovered(**ABOUT), probing(**ABOUT), True),
        (Recovered(**ABOUT), probing(**OTHER), False),
        (Recovered(**ABOUT), opened(30.0, **OTHER), False),
        (Recovered(**ABOUT), None, False),
        (Recovered(**ABOUT), Recovered(**OTHER), False),
        (Paused(**ABOUT, until=NOW + 60.0), None, True),
        (Paused(**ABOUT, until=NOW - 1.0), None, False),
        (Paused(**ABOUT, until=NOW + 60.0), Paused(**OTHER, until=NOW + 60.0), False),
        (Paused(**ABOUT, until=NOW + 61.0), Paused(**OTHER, until=NOW + 60.0), True),
    ],
)
def test_which_of_two_entries_stands(mine: Entry, theirs: Entry | None, stands: bool) -> None:
    assert merged(mine, theirs, NOW) == (mine if stands else None)


def test_a_circuit_is_closed_by_a_node_that_knew_its_latest_break() -> None:
    assert merged(Recovered(**ABOUT), opened(30.0, **OTHER), NOW, knew=True)
    assert merged(Recovered(**ABOUT), probing(**OTHER), NOW, knew=True)


def test_a_circuit_is_probed_that_a_node_has_opened_after_the_recovery_it_knew() -> None:
    assert merged(probing(), Recovered(**OTHER), NOW, knew=True) == probing()


@given(st.floats(-50.0, 50.0), st.integers(1, 3), st.floats(-50.0, 50.0), st.integers(1, 3), st.booleans())
def test_two_nodes_do_not_replace_each_others_entries_in_turn(
    one: float, times: int, other: float, more: int, is_pause: bool
) -> None:
    mine: Entry = Paused(**ABOUT, until=NOW + one) if is_pause else opened(one, times)
    theirs: Entry = Paused(**OTHER, until=NOW + other) if is_pause else opened(other, more, **OTHER)
    assert not (merged(mine, theirs, NOW) and merged(theirs, mine, NOW))


@given(st.floats(-20.0, 20.0))
def test_of_two_nodes_that_want_to_probe_one_may(after: float) -> None:
    claimed = merged(probing(), opened(after), NOW)
    if claimed is not None:
        assert merged(probing(**OTHER), claimed, NOW + 9.0) is None


def test_entries_are_deleted_once_they_are_over() -> None:
    assert lifetime(opened(30.0), NOW) == 30 + KEPT
    assert lifetime(Paused(**ABOUT, until=NOW + 0.2), NOW) == 1
    assert lifetime(Paused(**ABOUT, until=NOW - 9.0), NOW) == 1
    assert lifetime(opened(1e300), NOW) == 10 * 86_400
    assert is_over(opened(-KEPT), NOW)
    assert not is_over(opened(-1.0), NOW)
    assert is_over(Paused(**ABOUT, until=NOW), NOW)


def test_a_probe_that_is_given_up_leaves_the_break_that_it_was_to_end() -> None:
    probe = Probing(**OTHER, until=NOW + 5.0, times=3, category=Category.TRANSIENT, cause="reset")
    assert released(probe, NOW, "gpu-a", "a1") == opened(0.0, 3)


def test_what_another_run_used_is_counted_once() -> None:
    first = Used(**OTHER, taken=3, successes=100, tokens=1.0, at=NOW)
    second = Used(**OTHER, taken=5, successes=104, tokens=1.0, at=NOW)
    assert newly_used(first, None) == (3, 0)
    assert newly_used(second, first) == (2, 4)
    assert newly_used(second, second) == (0, 0)
    assert newly_used(msgspec.structs.replace(second, run="b2"), first) == (5, 0)
    assert newly_used(first, second) == (-2, 0)  # retries that were not made


def test_news_are_what_calls_here_have_seen() -> None:
    event = CircuitOpened(at=5.0, operation="download", key="hf.co:443", after=30.0, times=2, cause="reset")
    news = news_of_circuit(event, ABOUT, 100.0)
    assert isinstance(news, Opened)
    assert (news.until, news.times, news.cause) == (135.0, 2, "reset")
    for change in ({"node": "gpu-b"}, {"forced": True}, {"metrics_only": True}):
        assert news_of_circuit(msgspec.structs.replace(event, **change), ABOUT, 0.0) is None
    closed = CircuitClosed(at=5.0, operation="download")
    assert news_of_circuit(closed, ABOUT, 0.0) == Recovered(**ABOUT)
    for change in ({"node": "gpu-b"}, {"why": "forced"}, {"why": "forgotten"}):
        assert news_of_circuit(msgspec.structs.replace(closed, **change), ABOUT, 0.0) is None


def test_a_secret_in_a_cause_is_not_told() -> None:
    event = CircuitOpened(at=5.0, after=30.0, cause="GET https://me:hunter2@hf.co/x")
    assert "hunter2" not in str(news_of_circuit(event, ABOUT, 0.0))


@pytest.mark.parametrize("retry_after", [None, 0.0, 60.0])
def test_a_rate_limit_without_a_time_is_no_news(retry_after: float | None) -> None:
    failure = FailureClassified(
        at=5.0, call="c", category=LIMITED, evidence=Evidence(type="E"), retry_after=retry_after
    )
    news = news_of_limit(failure, ABOUT, 100.0)
    assert (news and news.until) == (165.0 if retry_after else None)


def test_a_key_without_utf_8_has_an_entry_that_is_not_told() -> None:
    entry = Paused(**{**ABOUT, "key": "\ud800"}, until=NOW)
    assert key_of(entry)
    with pytest.raises(ValueError):
        to_bytes(entry)
