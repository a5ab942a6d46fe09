"""Events to publish on a bus, and receivers that note them."""

from __future__ import annotations

from events.bus import Bus
from events.bus_events import SubscriberFailed
from events.event import CallEvent, Event
from events.operation_events import GaveUp, OperationFailed


def gave_up(operation: str = "fetch", key: str = "", call: str = "c") -> GaveUp:
    return GaveUp(at=0.0, operation=operation, key=key, call=call)


def failed() -> OperationFailed:
    return OperationFailed(at=0.0, operation="fetch", call="c", error=OSError())


def raising(event: Event) -> None:
    raise OSError(f"cannot bear {event}")


def events_on(bus: Bus, kind: type[Event] = SubscriberFailed) -> list[Event]:
    """A list that fills with the events of *kind* on *bus*."""
    events: list[Event] = []
    bus.subscribe(kind, events.append)
    return events


class Recorder:
    """An object with a method, which blinker references weakly."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def receive(self, sender: str, event: Event) -> None:
        self.events.append(event)


class Unlisted(CallEvent, frozen=True):
    """A kind of event that no bus has a signal for."""
