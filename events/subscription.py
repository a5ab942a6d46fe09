"""What ``subscribe`` returns, and how the bus calls receivers that were connected through blinker itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, Self, TypeAlias, TypedDict

import msgspec

from events.callables import is_async, name_of
from events.event import Event

OnError: TypeAlias = Literal["ignore", "give up"]


class Trouble(msgspec.Struct, gc=False):
    """How a receiver fails: *failures* in a row, when that was *logged*, and how often since without a line."""

    failures: int = 0
    logged: float | None = None
    unlogged: int = 0


class EventQueue(Protocol):
    """The queue of a subscriber (``events.queued.Queue``)."""

    dropped: int

    def close(self) -> None:
        """Deliver what is queued, and nothing after that."""

    async def aclose(self) -> None:
        """As ``close``, while the loop runs on."""


class Subscription(msgspec.Struct, eq=False, weakref=True):
    """One subscriber on a bus. ``close()`` it, or use it as a context manager, to end it.

    With a queue, its end delivers what is queued, for at most five seconds. In async code use ``async with``, or
    ``await subscription.aclose()``: on the loop that calls an async subscriber ``close()`` cannot wait, and drops it.

    Args:
        number: Its place among all subscriptions of the bus.
        function: The subscriber.
        sender: What blinker knows the operation, or the key of it, by that it asks for; ``blinker.ANY`` for all.
        essential: Whether it stays when the function raises again and again.
        is_detail: Whether it wants its events only while the log wants details.
        gives_up: Whether it answers with ``GiveUp`` where the function raises.
        trouble: How the function fails; ``None`` if it never has.
        queue: Its queue; ``None`` if the function runs within ``publish``.
    """

    # The subscription, not the function, is blinker's receiver: one function may be subscribed twice, and only a full
    # disconnect empties ``Signal.receivers``, which tells whether a signal has receivers at all.
    number: int
    function: Callable[[Any], object]
    sender: object
    _disconnect: Callable[[Subscription], object]
    essential: bool = False
    is_detail: bool = False
    gives_up: bool = False
    trouble: Trouble | None = None
    queue: EventQueue | None = None

    @property
    def dropped(self) -> int:
        """How many events a subscriber with a queue has missed: there was no room, or no time at the end."""
        return 0 if self.queue is None else self.queue.dropped

    def __call__(self, sender: object, *, event: Event) -> object:
        """Receive *event* from code that sends through the blinker signal itself."""
        return self.function(event)

    def __repr__(self) -> str:
        return f"<Subscription of {name_of(self.function)}>"

    def close(self) -> None:
        """End the subscription. Closing twice is harmless; an event that is being published may still arrive."""
        self._disconnect(self)
        if self.queue is not None:
            self.queue.close()

    async def aclose(self) -> None:
        """End the subscription, as ``close``, while the loop runs on."""
        self._disconnect(self)
        if self.queue is not None:
            await self.queue.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Narrowing(TypedDict, total=False):
    """The keyword arguments of ``Bus.subscribe``, which describes them."""

    operation: str | None
    key: str | None
    essential: bool
    is_detail: bool
    on_error: OnError
    queue: int | None


def check_subscriber(function: object, operation: str | None, key: str | None, queue: int | None) -> None:
    """Raise TypeError unless *function* is a plain one, or has a *queue*, and a *key* has an operation."""
    if isinstance(function, type) and issubclass(function, Event):
        raise TypeError(f"the kind of event comes first: subscribe({function.__name__}, function)")
    if not callable(function):
        raise TypeError(f"a subscriber is called with the event; {function!r} cannot be called")
    if queue is not None and (not isinstance(queue, int) or isinstance(queue, bool)):
        raise TypeError(f"queue must be a number of events, not {queue!r}")
    if queue is not None and queue < 1:
        raise ValueError(f"queue must be at least 1, not {queue}: further events are dropped")
    if queue is None and is_async(function):
        raise TypeError(
            f"{name_of(function)} is a coroutine function; publishing never awaits: pass a plain function, "
            "or queue=1000 to have this loop call it for up to 1000 events that wait"
        )
    if key is not None and operation is None:
        raise TypeError("key= narrows an operation down; name the operation too")


def receiver_of(function: Any) -> Any:
    """The receiver that was connected to a signal itself, where *function* calls one; otherwise *function*."""
    is_foreign = isinstance(function, functools.partial) and function.func is call_as_blinker
    return function.args[0] if is_foreign else function


def identity(receiver: Any) -> object:
    """What identifies *receiver*, as for blinker: a bound method is a new object each time it is looked up."""
    function = getattr(receiver, "__func__", None)
    return id(receiver) if function is None else (id(function), id(receiver.__self__))


def call_as_blinker(receiver: Callable[..., object], event: Event) -> object:
    """Call a receiver that was connected to the signal itself, as blinker would."""
    return receiver(event.operation, event=event)
