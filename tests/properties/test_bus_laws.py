"""Laws of the bus: an event reaches the subscribers that a walk over all subscriptions would name."""

from __future__ import annotations

from typing import Any

import blinker
import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from events.bus import Bus
from events.event import CallEvent, Event
from events.kinds import ON_REQUEST, kinds_of
from events.operation import Operation
from events.operation_events import GaveUp, OperationStarted, OperationSucceeded, Parked
from events.subscription import Subscription

KINDS: dict[type[Event], dict[str, Any]] = {
    GaveUp: {},
    Parked: {"after": 1.0},
    OperationStarted: {},
    OperationSucceeded: {},
}
ASKED = st.lists(st.sampled_from([Event, CallEvent, *KINDS]), min_size=1, max_size=2)
PARTS = [("a", ""), ("a", "x"), ("a", "y"), ("a[x]", ""), ("b", ""), ("b", "x")]
EVENTS = st.sampled_from([*PARTS, ("a\0x", ""), ("", "")])
ASKED_PARTS = st.sampled_from([(None, None), *PARTS, ("b", None)])


class Known(msgspec.Struct, eq=False):
    """A subscriber, as the model knows it."""

    name: int
    kinds: frozenset[type[Event]]
    operation: str | None
    key: str | None
    is_detail: bool = False
    closes_itself: bool = False
    subscription: Subscription | None = None

    def wants(self, kind: type[Event], part: tuple[str, str]) -> bool:
        if self.operation is None:
            return kind in self.kinds
        return kind in self.kinds and part in [(self.operation, self.key or part[1])]


class Foreign(msgspec.Struct, eq=False):
    """A receiver that is connected to a signal itself."""

    kind: type[Event]
    sender: str | None
    receiver: Any
    is_weak: bool


class BusMachine(RuleBasedStateMachine):
    """A bus and the list of its subscribers, which is walked for each event."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus()
        self.number = 0
        self.known: list[Known] = []
        self.foreign: dict[int, Foreign] = {}
        self.operations: list[Operation] = []
        self.received: list[int] = []

    @rule(asked=ASKED, part=ASKED_PARTS, is_detail=st.booleans(), closes_itself=st.booleans())
    def subscribe(
        self, asked: list[type[Event]], part: tuple[str | None, str | None], is_detail: bool, closes_itself: bool
    ) -> None:
        self.number += 1
        kinds = frozenset(kind for one in asked for kind in kinds_of(one))
        known = Known(self.number, kinds, *part, is_detail, closes_itself)

        def receive(event: Event) -> None:
            self.received.append(known.name)
            if known.closes_itself and known.subscription is not None:
                known.subscription.close()

        operation, key = part
        known.subscription = self.bus.subscribe(asked, receive, operation=operation, key=key, is_detail=is_detail)
        self.known.append(known)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), times=st.integers(1, 2))
    def close(self, data: st.DataObject, times: int) -> None:
        known = data.draw(st.sampled_from(self.known))
        for _ in range(times):
            assert known.subscription is not None
            known.subscription.close()
        self.known.remove(known)

    @rule(kind=st.sampled_from([GaveUp, Parked]), sender=st.sampled_from([None, "a", "b"]), weak=st.booleans())
    def connect(self, kind: type[Event], sender: str | None, weak: bool) -> None:
        self.number += 1
        name = self.number

        def receiver(sender: str, event: Event) -> None:
            self.received.append(name)

        self.foreign[name] = Foreign(kind, sender, receiver, weak)
        self.bus.signal(kind).connect(receiver, blinker.ANY if sender is None else sender, weak)

    @precondition(lambda self: self.foreign)
    @rule(data=st.data(), is_lost=st.booleans())
    def disconnect(self, data: st.DataObject, is_lost: bool) -> None:
        one = self.foreign.pop(data.draw(st.sampled_from(sorted(self.foreign))))
        if not (one.is_weak and is_lost):
            self.bus.signal(one.kind).disconnect(one.receiver)

    @rule(part=st.sampled_from(PARTS))
    def make_an_operation(self, part: tuple[str, str]) -> None:
        self.operations.append(Operation(part[0], self.bus, key=part[1]))

    @precondition(lambda self: self.operations)
    @rule(data=st.data())
    def drop_an_operation(self, data: st.DataObject) -> None:
        self.operations.pop(data.draw(st.integers(0, len(self.operations) - 1)))

    @rule(kind=st.sampled_from(list(KINDS)), part=EVENTS, is_detail=st.booleans())
    def publish(self, kind: type[CallEvent], part: tuple[str, str], is_detail: bool) -> None:
        subscribers = [one for one in self.known if one.wants(kind, part) and not (is_detail and one.is_detail)]
        connected = {name for name, one in self.foreign.items() if one.kind is kind and one.sender in (None, part[0])}
        asked = self.bus.has_subscribers(kind, *part, is_detail=is_detail)
        self.received = []
        self.bus.cascade(kind(at=0.0, operation=part[0], key=part[1], call="c", **KINDS[kind]), is_detail=is_detail)
        ours = [one.name for one in subscribers]
        assert self.received[: len(ours)] == ours
        assert set(self.received[len(ours) :]) == connected
        assert len(self.received) == len(ours) + len(connected)
        assert asked == bool(self.received)
        self.known = [one for one in self.known if not (one in subscribers and one.closes_itself)]

    @invariant()
    def an_operation_is_observed_while_its_starts_or_successes_are_wanted(self) -> None:
        for operation in self.operations:
            part = (operation.name, operation.key)
            wanted = any(one.wants(kind, part) for kind in ON_REQUEST for one in self.known if not one.is_detail)
            assert operation.is_observed == wanted

    @invariant()
    def the_bus_knows_the_operations_that_are_referenced(self) -> None:
        assert sorted(map(id, self.bus.operations())) == sorted(map(id, self.operations))

    def teardown(self) -> None:
        for one in self.known:
            assert one.subscription is not None
            one.subscription.close()
        for foreign in self.foreign.values():
            self.bus.signal(foreign.kind).disconnect(foreign.receiver)
        assert not any(self.bus.signal(kind).receivers for kind in KINDS)
        assert not any(operation.is_observed for operation in self.operations)


BusMachine.TestCase.settings = settings(stateful_step_count=40)
TestBus = BusMachine.TestCase
