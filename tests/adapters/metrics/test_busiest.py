"""Laws of the share-out between the busiest keys and the others: nothing is lost, and nothing falls."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.metrics.busiest import HALF_LIFE, LEAD, Busiest

KEYS = [("fetch", name) for name in ("", "a", "b", "c", "d", "other")] + [("clone", "a")]

scrapes = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 50), max_size=len(KEYS)), st.floats(0, 9000)),
    max_size=12,
)


@settings(max_examples=25)
@given(scrapes, st.integers(0, 3))
def test_every_share_only_grows_and_all_together_are_the_counts(scrapes, most):
    busiest: Busiest[str] = Busiest(most)
    total: Counter[tuple[str, str]] = Counter()
    greatest: dict[tuple[str, str], float] = {}
    now = 0.0
    for more, seconds in scrapes:
        now += seconds
        total.update(more)
        shares = busiest.share({key: {"calls": number} for key, number in total.items()}, ["calls"], now)
        shown = {key: of.get("calls", 0.0) for key, of in shares.items()}
        assert all(number >= greatest.get(key, 0.0) for key, number in shown.items())
        greatest |= shown
        assert sum(1 for _, key in shown if key not in ("", "other")) <= most
        # What a key counted while it was shown is kept for its return.
        assert sum(greatest.values()) == sum(total.values())


def test_a_count_that_falls_goes_on_from_its_greatest_value():
    busiest: Busiest[str] = Busiest()
    counted = [busiest.share({("fetch", ""): {"calls": calls}}, ["calls"], 0.0) for calls in (5.0, 4.0, 5.0, 6.0)]
    assert dict(counted[-1][("fetch", "")]) == {"calls": 6.0}


def test_a_key_that_is_as_busy_takes_no_place_of_a_shown_one():
    busiest: Busiest[str] = Busiest(1)
    both = {("fetch", "a"): {"calls": 4.0}, ("fetch", "b"): {"calls": 3.0}}
    busiest.share(both, ["calls"], 0.0)
    busiest.share({**both, ("fetch", "b"): {"calls": 4.0 * LEAD - 1.0}}, ["calls"], 0.0)
    assert busiest.shown == {("fetch", "a")}
    busiest.share({**both, ("fetch", "b"): {"calls": 4.0 * LEAD + 1.0}}, ["calls"], 0.0)
    assert busiest.shown == {("fetch", "b")}


def test_a_key_that_was_busy_long_ago_makes_room():
    busiest: Busiest[str] = Busiest(1)
    old = {("fetch", "a"): {"calls": 100.0}}
    busiest.share(old, ["calls"], 0.0)
    busiest.share({**old, ("fetch", "b"): {"calls": 10.0}}, ["calls"], 10 * HALF_LIFE)
    assert busiest.shown == {("fetch", "b")}
