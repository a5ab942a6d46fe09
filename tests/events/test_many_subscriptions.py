"""What a subscription costs among very many others."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable

import pytest

from events.bus import Bus
from events.event import Event
from events.operation import Operation
from events.operation_events import GaveUp, OperationStarted, OperationSucceeded
from events.subscription import Subscription
from tests.slow import few
from tests.steps import steps_of

KINDS: tuple[type[Event], ...] = (GaveUp, OperationStarted, OperationSucceeded)
MANY = 1024

Narrow = Callable[[int], tuple[str, str]]


def by_key(number: int) -> tuple[str, str]:
    return "fetch", f"{number}"


def by_operation(number: int) -> tuple[str, str]:
    return f"{number}", ""


class Many:
    """A bus with very many operations, whose subscribers are all known, and subscriptions that come and go."""

    def __init__(self, narrow: Narrow, number: int) -> None:
        self.bus = Bus()
        self.bus.subscribe(GaveUp, lambda _: None)
        self.operations = [Operation(name, self.bus, key=key) for name, key in map(narrow, range(number))]
        for operation in self.operations:
            self.look_up(operation)
        self.open: list[Subscription] = []

    def look_up(self, operation: Operation) -> None:
        for kind in KINDS:
            self.bus.has_subscribers(kind, operation.name, operation.key)

    def subscribe(self) -> None:
        """Subscribe to the next part, as a circuit does, and find its subscribers again."""
        operation = self.operations[len(self.open)]
        name, key = operation.name, operation.key
        self.open.append(self.bus.subscribe(KINDS, lambda _: None, operation=name, key=key or None))
        self.look_up(operation)

    def close(self) -> None:
        """Close the latest subscription."""
        self.open.pop().close()
        self.look_up(self.operations[len(self.open)])


@pytest.mark.parametrize("narrow", [by_key, by_operation])
@pytest.mark.slow
def test_among_a_thousand_subscriptions_one_comes_and_goes_as_among_four(narrow: Narrow) -> None:
    opening, closing = {}, {}
    for number in (4, MANY):
        many = Many(narrow, number)
        for _ in range(number - 1):
            many.subscribe()
        opening[number] = steps_of(many.subscribe)
        closing[number] = steps_of(many.close)
    assert opening[MANY] <= 1.2 * opening[4]
    assert closing[MANY] <= 1.2 * closing[4]


def test_among_a_thousand_operations_one_comes_as_among_four() -> None:
    bus, kept = Bus(), []
    costs = [steps_of(lambda: kept.append(Operation("fetch", bus, key=f"{len(kept)}"))) for _ in range(MANY)]
    assert costs[-1] <= 1.2 * costs[3]


def test_among_a_thousand_operations_a_subscription_to_all_comes_and_goes_as_among_four() -> None:
    opening, closing = {}, {}
    for number in (4, MANY):
        many = Many(by_operation, number)
        opening[number] = steps_of(lambda many=many: many.open.append(many.bus.subscribe(KINDS, lambda _: None)))
        assert all(operation.is_observed for operation in many.operations)
        closing[number] = steps_of(many.open.pop().close)
        assert not any(operation.is_observed for operation in many.operations)
    assert opening[MANY] <= 1.2 * opening[4]
    assert closing[MANY] <= 1.2 * closing[4]


def test_parts_that_no_subscription_names_share_their_subscribers() -> None:
    bus = Bus()
    for operation in (None, "other"):
        bus.subscribe(GaveUp, lambda _: None, operation=operation)
    first, second, third = (steps_of(bus.has_subscribers, GaveUp, "fetch", key) for key in "abc")
    assert second == third < first / 3


def test_a_subscription_to_one_key_leaves_those_of_the_other_keys_ready() -> None:
    many = Many(by_key, 3)
    many.subscribe()
    many.subscribe()
    many.look_up(many.operations[0])
    before = steps_of(many.look_up, many.operations[0])
    many.subscribe()
    assert steps_of(many.look_up, many.operations[0]) == before


@pytest.mark.parametrize("number", few([2500, 10_000], 2500))
@pytest.mark.slow
def test_very_many_closed_subscriptions_leave_no_state_behind(number: int) -> None:
    bus, rng = Bus(), random.Random(1)
    tracemalloc.start()
    open_ones: list[Subscription] = []
    for one in range(number):
        operation = Operation("fetch", bus, key=f"{one}")
        open_ones.append(bus.subscribe(KINDS, lambda _: None, operation="fetch", key=operation.key))
        if len(open_ones) > 50:
            open_ones.pop(rng.randrange(50)).close()
    while open_ones:
        open_ones.pop().close()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 200_000
    assert not any(bus.signal(kind).receivers for kind in KINDS)
    del operation
    assert bus.operations() == ()
