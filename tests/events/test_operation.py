"""Operations: starting calls, keys, and ``is_observed``."""

from __future__ import annotations

import gc

import pytest

from events.bus import Bus
from events.errors import CallRejectedError
from events.event import Event
from events.kinds import ON_REQUEST
from events.operation import Operation
from events.operation_events import (
    CallRejected,
    OperationStarted,
)
from events.verdicts import GiveUp, Park, Retry, Verdict
from tests.events.calls import (
    answer_starts,
    events_of,
    operation,
)

VERDICTS: list[Verdict] = [Retry(5.0), Park(5.0, until=("disk",)), GiveUp("closed", 5.0)]


def test_every_start_begins_a_new_call() -> None:
    fetch = operation()
    assert [fetch.start().call.id, fetch.start().call.id] == ["run-1", "run-2"]


def test_a_start_is_published() -> None:
    fetch = operation(key="host", clock=lambda: 7.0)
    events = events_of(fetch, OperationStarted)
    fetch.start()
    assert events == [OperationStarted(at=7.0, operation="fetch", key="host", call="run-1")]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_call_that_may_not_begin_is_rejected(verdict: Verdict) -> None:
    fetch = operation()
    answer_starts(fetch, verdict)
    with pytest.raises(CallRejectedError) as caught:
        fetch.start()
    assert (caught.value.operation, caught.value.retry_after) == ("fetch", 5.0)


@pytest.mark.parametrize(
    ("verdict", "message"),
    [
        (Retry(5.0), "fetch[host] was not started: deferred; come back in 5.0 s"),
        (Park(5.0, until=("disk", "port")), "fetch[host] was not started: disk; port; come back in 5.0 s"),
        (GiveUp("closed", 5.0), "fetch[host] was not started: closed; come back in 5.0 s"),
        (GiveUp("closed", 0.0), "fetch[host] was not started: closed; come back in 0.0 s"),
        (GiveUp("closed"), "fetch[host] was not started: closed"),
        (Park(5.0), "fetch[host] was not started: deferred; come back in 5.0 s"),
    ],
)
def test_a_rejection_says_why_and_when_to_call_again(verdict: Verdict, message: str) -> None:
    fetch = operation(key="host")
    answer_starts(fetch, verdict)
    with pytest.raises(CallRejectedError) as caught:
        fetch.start()
    assert str(caught.value) == message


def test_a_rejection_is_published() -> None:
    fetch = operation()
    events = events_of(fetch)
    answer_starts(fetch, GiveUp("closed", 5.0))
    with pytest.raises(CallRejectedError):
        fetch.start()
    assert events == [CallRejected(at=0.0, operation="fetch", call="run-1", reason="closed", retry_after=5.0)]


def test_a_start_without_a_verdict_begins() -> None:
    fetch = operation()
    fetch.bus.subscribe(OperationStarted, lambda _: None)
    fetch.start().succeed()
    assert fetch.successes == 1


def test_a_key_publishes_its_own_events() -> None:
    whole = operation(Retry(1.0))
    part = Operation("fetch", whole.bus, key="host")
    events = events_of(whole)
    part.start().fail(OSError())
    assert [(event.operation, event.key) for event in events] == [("fetch", "host")]


def test_a_key_counts_its_own_successes() -> None:
    whole = operation()
    part = Operation("fetch", whole.bus, key="host")
    part.start().succeed()
    assert (whole.successes, part.successes) == (0, 1)


def test_an_operation_shows_its_name_and_key() -> None:
    assert repr(operation(key="host")) == "<Operation fetch[host]>"


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_an_operation_is_observed_while_it_has_a_subscriber(kind: type[Event]) -> None:
    fetch = operation()
    before = fetch.is_observed
    with fetch.bus.subscribe(kind, lambda event: None):
        during = fetch.is_observed
    assert (before, during, fetch.is_observed) == (False, True, False)


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_an_operation_is_observed_while_a_receiver_is_connected(kind: type[Event]) -> None:
    fetch = operation()
    before = fetch.is_observed
    with fetch.bus.signal(kind).connected_to(lambda sender, event: None):
        during = fetch.is_observed
    assert (before, during, fetch.is_observed) == (False, True, False)


def test_a_receiver_that_disconnects_observes_no_longer() -> None:
    fetch = operation()

    def receiver(sender: str, event: Event) -> None: ...

    signal = fetch.bus.signal(OperationStarted)
    signal.connect(receiver, sender="fetch")
    signal.disconnect(receiver, sender="fetch")
    assert not fetch.is_observed


def test_an_operation_created_later_is_observed() -> None:
    bus = Bus()
    bus.subscribe(OperationStarted, lambda event: None)
    assert Operation("fetch", bus).is_observed


def test_an_operation_is_observed_until_the_last_subscription_closes() -> None:
    fetch = operation()
    subscriptions = [fetch.bus.subscribe(kind, lambda event: None) for kind in (*ON_REQUEST, *ON_REQUEST)]
    is_observed = []
    for subscription in subscriptions:
        subscription.close()
        is_observed.append(fetch.is_observed)
    assert is_observed == [True, True, True, False]


def test_a_subscription_to_one_key_observes_no_other() -> None:
    fetch = operation()
    parts = [fetch, *(Operation("fetch", fetch.bus, key=key) for key in "xy"), Operation("other", fetch.bus, key="x")]
    fetch.bus.subscribe(OperationStarted, lambda event: None, operation="fetch", key="x")
    assert [part.is_observed for part in parts] == [False, True, False, False]


def test_a_subscription_to_all_other_events_does_not_observe() -> None:
    fetch = operation()
    events_of(fetch, Event)
    assert not fetch.is_observed


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_a_collected_receiver_observes_no_longer(kind: type[Event]) -> None:
    fetch = operation()

    def receiver(sender: str, event: Event) -> None: ...

    fetch.bus.signal(kind).connect(receiver)
    del receiver
    gc.collect()
    fetch.start().succeed()  # the bus may notice it only now
    assert not fetch.is_observed
