from __future__ import annotations

import math

import pytest

from events.verdicts import GiveUp, Park, Retry, Verdict, check, join, settle


@pytest.mark.parametrize(
    ("mild", "strict"), [(Retry(9.0), Park()), (Park(9.0), GiveUp("no")), (Retry(9.0), GiveUp("no"))]
)
def test_the_stricter_kind_wins(mild: Verdict, strict: Verdict) -> None:
    assert type(join(mild, strict)) is type(join(strict, mild)) is type(strict)


def test_the_longest_wait_wins() -> None:
    assert join(Retry(1.0), Retry(2.0)) == Retry(2.0)


def test_the_shortest_deadline_wins() -> None:
    assert join(Retry(within=9.0), Retry(within=3.0)) == Retry(within=3.0)


def test_a_park_keeps_the_wait_and_the_deadline_of_a_retry() -> None:
    assert join(Retry(5.0, 7.0), Park(1.0, until=("disk",))) == Park(5.0, ("disk",), 7.0, counts_as_retry=True)


def test_a_park_without_a_retry_counts_as_none() -> None:
    assert join(Park(1.0), Park(2.0)) == Park(2.0)
    assert join(Park(1.0, counts_as_retry=True), Park(2.0)) == Park(2.0, counts_as_retry=True)


def test_causes_are_united_and_sorted() -> None:
    assert join(Park(until=("port", "disk")), Park(until=("host", "disk"))) == Park(until=("disk", "host", "port"))


def test_reasons_are_united_and_sorted() -> None:
    assert join(GiveUp(("b", "a")), GiveUp(("c", "a"))) == GiveUp(("a", "b", "c"))


def test_a_refusal_drops_the_delay_of_a_milder_verdict() -> None:
    assert join(Retry(60.0), GiveUp("no")) == GiveUp("no")


def test_the_longest_time_until_a_new_call_wins() -> None:
    assert join(GiveUp("a", 5.0), GiveUp("a", 9.0)) == GiveUp("a", 9.0)


def test_an_unknown_time_until_a_new_call_does_not_hide_a_known_one() -> None:
    assert join(GiveUp("a"), GiveUp("b", 0.0)) == GiveUp(("a", "b"), 0.0)


def test_one_reason_may_be_a_plain_string() -> None:
    assert GiveUp("out of time") == GiveUp(("out of time",))


def test_reasons_make_one_line() -> None:
    assert GiveUp(("no disk", "no port")).reason == "no disk; no port"


def test_a_verdict_matches_by_position() -> None:
    match Park(1.0, ("disk",), 2.0):
        case Park(after, until, within):
            assert (after, until, within) == (1.0, ("disk",), 2.0)


def test_no_verdicts_are_no_verdict() -> None:
    assert settle([]) is settle([None, None]) is None


def test_a_wait_that_ends_exactly_in_time_is_kept() -> None:
    assert settle([Retry(5.0, 5.0)]) == Retry(5.0, 5.0)


@pytest.mark.parametrize("kind", [Retry, Park])
def test_a_wait_that_ends_too_late_is_out_of_time(kind: type[Retry | Park]) -> None:
    assert settle([kind(math.nextafter(5.0, 6.0), within=5.0)]) == GiveUp("out of time")


def test_one_wait_can_miss_the_deadline_of_another() -> None:
    assert settle([Retry(5.0), Retry(0.0, within=1.0)]) == GiveUp("out of time")


def test_time_is_compared_after_the_join_only() -> None:
    assert settle([Retry(5.0, 1.0), GiveUp("no")]) == GiveUp("no")


def test_an_endless_wait_without_a_deadline_is_kept() -> None:
    assert settle([Park(math.inf)]) == Park(math.inf)


@pytest.mark.parametrize(
    "verdict",
    [
        Retry(None),  # type: ignore[arg-type]
        Retry(0.0, "1"),  # type: ignore[arg-type]
        Retry(math.nan),
        Park(within=math.nan),
        Park(until="disk"),  # type: ignore[arg-type]
        Park(until=("disk", None)),  # type: ignore[arg-type]
        GiveUp(None),  # type: ignore[arg-type]
        GiveUp(["no"]),  # type: ignore[arg-type]
        GiveUp("no", "1"),  # type: ignore[arg-type]
        GiveUp("no", math.nan),
    ],
)
def test_a_verdict_that_cannot_be_compared_is_refused(verdict: Verdict) -> None:
    with pytest.raises((TypeError, ValueError)):
        check(verdict)


@pytest.mark.parametrize(
    "verdict", [Retry(1, 2), Park(math.inf, until=("disk",)), GiveUp(), GiveUp("no", 0), GiveUp("no")]
)
def test_a_verdict_that_can_be_compared_is_not_refused(verdict: Verdict) -> None:
    check(verdict)


def test_reasons_are_sorted_from_the_start() -> None:
    assert GiveUp(("b", "a", "b")).reason == "a; b"
