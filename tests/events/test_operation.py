"""Operations: starting calls, keys, and ``is_observed``."""

from __future__ import annotations

import gc

import pytest

from events.bus import Bus
from events.errors import CallRejectedError
from events.event import Event
from events.kinds import ON_REQUEST
from events.operation import Operation
from events.operation_events import CallRejected, OperationStarted
from events.verdicts import GiveUp, Park, Retry, Verdict
from tests.events.calls import events_of, operation


def test_every_start_begins_a_new_call(fetch: Operation) -> None:
    assert [fetch.start().call.id, fetch.start().call.id] == ["run-1", "run-2"]


def test_a_start_is_published() -> None:
    fetch = operation(key="host", clock=lambda: 7.0)
    events = events_of(fetch, OperationStarted)
    fetch.start()
    assert events == [OperationStarted(at=7.0, operation="fetch", key="host", call="run-1")]


@pytest.mark.parametrize(
    ("verdict", "reason", "when"),
    [
        (Retry(5.0), "deferred", "; come back in 5.0 s"),
        (Park(5.0, until=("disk", "port")), "disk; port", "; come back in 5.0 s"),
        (GiveUp("closed", 5.0), "closed", "; come back in 5.0 s"),
        (GiveUp("closed", 0.0), "closed", "; come back in 0.0 s"),
        (GiveUp("closed"), "closed", ""),
        (Park(5.0), "deferred", "; come back in 5.0 s"),
    ],
)
def test_a_rejection_says_why_and_when_to_call_again(verdict: Verdict, reason: str, when: str) -> None:
    fetch = operation(key="host")
    events = events_of(fetch)
    fetch.bus.subscribe(OperationStarted, lambda _: verdict)
    with pytest.raises(CallRejectedError) as caught:
        fetch.start()
    assert str(caught.value) == f"fetch[host] was not started: {reason}{when}"
    assert (caught.value.operation, caught.value.retry_after) == ("fetch[host]", verdict.after)
    about = {"operation": "fetch", "key": "host", "call": "run-1", "reason": reason, "retry_after": verdict.after}
    assert events == [CallRejected(at=0.0, **about)]  # type: ignore[arg-type]


def test_a_key_has_events_and_a_count_of_its_own() -> None:
    whole = operation(Retry(1.0))
    part = Operation("fetch", whole.bus, key="host")
    events = events_of(whole)
    attempt = part.start()
    attempt.fail(OSError())
    attempt.next().succeed()
    assert [(event.operation, event.key) for event in events] == [("fetch", "host")] * 2
    assert (whole.successes, part.successes, repr(part)) == (0, 1, "<Operation fetch[host]>")


def receiver(sender: str, event: Event) -> None: ...


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_an_operation_is_observed_while_it_has_a_subscriber(kind: type[Event], fetch: Operation) -> None:
    signal, seen = fetch.bus.signal(kind), [fetch.is_observed]
    with fetch.bus.subscribe(kind, lambda event: None):
        seen.append(fetch.is_observed)
    seen.append(fetch.is_observed)
    with signal.connected_to(receiver):
        seen.append(fetch.is_observed)
    seen.append(fetch.is_observed)
    signal.connect(receiver, sender="fetch")
    seen.append(fetch.is_observed)
    signal.disconnect(receiver, sender="fetch")
    assert [*seen, fetch.is_observed] == [False, True, False, True, False, True, False]


def test_an_operation_created_later_is_observed(bus: Bus) -> None:
    bus.subscribe(OperationStarted, lambda event: None)
    assert Operation("fetch", bus).is_observed


def test_an_operation_is_observed_until_the_last_subscription_closes(fetch: Operation) -> None:
    subscriptions = [fetch.bus.subscribe(kind, lambda event: None) for kind in (*ON_REQUEST, *ON_REQUEST)]
    is_observed = []
    for subscription in subscriptions:
        subscription.close()
        is_observed.append(fetch.is_observed)
    assert is_observed == [True, True, True, False]


def test_a_subscription_to_one_key_observes_no_other(fetch: Operation) -> None:
    parts = [fetch, *(Operation("fetch", fetch.bus, key=key) for key in "xy"), Operation("other", fetch.bus, key="x")]
    fetch.bus.subscribe(OperationStarted, lambda event: None, operation="fetch", key="x")
    assert [part.is_observed for part in parts] == [False, True, False, False]


def test_a_subscription_to_all_other_events_does_not_observe(fetch: Operation) -> None:
    events_of(fetch, Event)
    assert not fetch.is_observed


@pytest.mark.parametrize("kind", ON_REQUEST)
def test_a_collected_receiver_observes_no_longer(kind: type[Event], fetch: Operation) -> None:

    def receiver(sender: str, event: Event) -> None: ...

    fetch.bus.signal(kind).connect(receiver)
    del receiver
    gc.collect()
    fetch.start().succeed()  # the bus may notice it only now
    assert not fetch.is_observed
