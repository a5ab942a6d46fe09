"""Laws of verdicts: how opinions join, and how the bus settles them."""

from __future__ import annotations

import math
from itertools import permutations

from hypothesis import example, given
from hypothesis import strategies as st

from events.bus import Bus
from events.operation_events import OperationFailed
from events.verdicts import OUT_OF_TIME, GiveUp, Park, Retry, Verdict, join, settle
from recovery.testing.strategies import verdicts

KINDS = [type(None), Retry, Park, GiveUp]
"""From the mildest to the strictest."""

opinions = st.one_of(st.none(), verdicts())
several = st.lists(opinions, max_size=4)
too_late = st.builds(Retry, st.just(2.0), st.just(1.0))


def is_at_least_as_strict(one: Verdict | None, other: Verdict | None) -> bool:
    """Whether *one* allows nothing that *other* forbids, and has its reasons."""
    if KINDS.index(type(one)) < KINDS.index(type(other)):
        return False
    match one, other:
        case GiveUp(reasons, after), GiveUp(given, wanted):
            # OUT_OF_TIME is added after the join, and only if no opinion gave up for another reason.
            return {*given} - {OUT_OF_TIME} <= {*reasons} and (
                wanted is None or (after is not None and after >= wanted)
            )
        case (_, None) | (GiveUp(), _):
            return True
        case Park(until=why), Park(until=given) if not {*given} <= {*why}:
            return False
        case Park(asks_person=False), Park(asks_person=True):
            return False
        case Retry() | Park(), Retry() | Park():
            return one.after >= other.after and one.within <= other.within
    raise AssertionError((one, other))


def answer(answers: list[Verdict | None]) -> Verdict | None:
    """The verdict of a bus with subscribers that give these answers, in this order."""
    bus = Bus()
    for one in answers:
        bus.subscribe(OperationFailed, lambda _, one=one: one)
    return bus.publish(OperationFailed(at=0.0, call="c", error=OSError()))


@given(opinions, opinions)
def test_the_join_is_commutative(one: Verdict | None, other: Verdict | None):
    assert join(one, other) == join(other, one)


@given(opinions, opinions, opinions)
def test_the_join_is_associative(one: Verdict | None, two: Verdict | None, three: Verdict | None):
    assert join(join(one, two), three) == join(one, join(two, three))


@given(opinions)
def test_the_join_is_idempotent(one: Verdict | None):
    assert join(one, one) == one


@given(opinions)
def test_no_opinion_is_neutral(one: Verdict | None):
    assert join(one, None) == join(None, one) == one


@given(opinions, opinions)
def test_the_join_is_at_least_as_strict_as_each_opinion(one: Verdict | None, other: Verdict | None):
    joined = join(one, other)
    assert is_at_least_as_strict(joined, one)
    assert is_at_least_as_strict(joined, other)


@given(opinions, opinions, opinions)
def test_the_join_is_the_mildest_strict_enough_verdict(
    one: Verdict | None, other: Verdict | None, bound: Verdict | None
):
    if is_at_least_as_strict(bound, one) and is_at_least_as_strict(bound, other):
        assert is_at_least_as_strict(bound, join(one, other))


@given(several)
def test_the_order_of_opinions_does_not_matter(some: list[Verdict | None]):
    assert len({settle(order) for order in permutations(some)}) == 1


@given(several, st.integers(0, 3))
def test_repeating_an_opinion_changes_nothing(some: list[Verdict | None], which: int):
    assert settle([*some, *some[which : which + 1]]) == settle(some)


@given(several)
def test_a_settled_wait_ends_in_time(some: list[Verdict | None]):
    match settle(some):
        case Retry(after, within) | Park(after, _, within):
            assert after <= within


@given(
    st.lists(st.one_of(verdicts().filter(lambda one: not isinstance(one, GiveUp)), too_late), min_size=1, max_size=4)
)
def test_a_wait_that_is_too_long_gives_up(some: list[Retry | Park]):
    is_late = max(one.after for one in some) > min(one.within for one in some)
    assert (settle(some) == GiveUp("out of time")) is is_late


@given(several, opinions, st.integers(0, 4))
def test_a_subscriber_can_only_make_a_verdict_stricter(others: list[Verdict | None], one: Verdict | None, place: int):
    assert is_at_least_as_strict(answer([*others[:place], one, *others[place:]]), answer(others))


@given(several.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_of_subscribers_does_not_matter(answers: tuple[list[Verdict | None], list[Verdict | None]]):
    one, other = answers
    assert answer(one) == answer(other)


numbers = st.sampled_from([math.nan, -1.0, 0.0, 1.0, math.inf])


@given(st.tuples(numbers, numbers), st.tuples(numbers, numbers))
@example((math.nan, math.nan), (1.0, 5.0))
def test_odd_numbers_do_not_make_the_order_matter(one: tuple[float, float], other: tuple[float, float]):
    def ask(*waits: tuple[float, float]) -> Verdict | None:
        bus = Bus()
        for wait in waits:
            bus.subscribe(OperationFailed, lambda _, wait=wait: Retry(*wait))
        return bus.publish(OperationFailed(at=0.0, call="c", error=OSError()))

    assert ask(one, other) == ask(other, one)
