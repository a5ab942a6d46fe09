from __future__ import annotations

import math

import pytest

from events.verdicts import GiveUp, Park, Retry, Verdict, check, join, settle


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        (Retry(9.0), Park(), Park(9.0, counts_as_retry=True)),
        (Park(9.0), GiveUp("no"), GiveUp("no")),
        (Retry(60.0), GiveUp("no"), GiveUp("no")),  # the delay of a milder verdict is dropped
        (Retry(1.0), Retry(2.0), Retry(2.0)),
        (Retry(within=9.0), Retry(within=3.0), Retry(within=3.0)),
        (Retry(5.0, 7.0), Park(1.0, until=("disk",)), Park(5.0, ("disk",), 7.0, counts_as_retry=True)),
        (Park(1.0), Park(2.0), Park(2.0)),
        (Park(1.0, counts_as_retry=True), Park(2.0), Park(2.0, counts_as_retry=True)),
        (Park(until=("port", "disk")), Park(until=("host", "disk")), Park(until=("disk", "host", "port"))),
        (GiveUp(("b", "a")), GiveUp(("c", "a")), GiveUp(("a", "b", "c"))),
        (GiveUp("a", 5.0), GiveUp("a", 9.0), GiveUp("a", 9.0)),
        (GiveUp("a"), GiveUp("b", 0.0), GiveUp(("a", "b"), 0.0)),  # an unknown time does not hide a known one
    ],
)
def test_the_join_is_the_stricter_in_every_respect(one: Verdict, other: Verdict, joined: Verdict) -> None:
    assert join(one, other) == join(other, one) == joined


def test_reasons_are_sorted_and_make_one_line() -> None:
    assert GiveUp("out of time") == GiveUp(("out of time",))
    assert GiveUp(("no port", "no disk", "no port")).reason == "no disk; no port"


def test_a_verdict_matches_by_position() -> None:
    match Park(1.0, ("disk",), 2.0):
        case Park(after, until, within):
            assert (after, until, within) == (1.0, ("disk",), 2.0)


@pytest.mark.parametrize(
    ("verdicts", "settled"),
    [
        ([], None),
        ([None, None], None),
        ([Retry(5.0, 5.0)], Retry(5.0, 5.0)),
        ([Retry(math.nextafter(5.0, 6.0), within=5.0)], GiveUp("out of time")),
        ([Park(math.nextafter(5.0, 6.0), within=5.0)], GiveUp("out of time")),
        ([Retry(5.0), Retry(0.0, within=1.0)], GiveUp("out of time")),
        ([Retry(5.0, 1.0), GiveUp("no")], GiveUp("no")),  # times are compared after the join only
        ([Park(math.inf)], Park(math.inf)),
    ],
)
def test_a_wait_that_would_end_too_late_is_out_of_time(verdicts: list[Verdict | None], settled: Verdict | None) -> None:
    assert settle(verdicts) == settled


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
