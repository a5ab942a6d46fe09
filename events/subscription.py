"""A seat on the bus: what ``subscribe`` gives, and what blinker knows a subscriber by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from events.callables import name_of
from events.event import Event

if TYPE_CHECKING:
    from events.bus import Bus


class Subscription:
    """A seat on the bus. ``close()`` it, or use it as a context manager, to stop hearing."""

    # The seat, not the function, is blinker's receiver: one function may be subscribed twice, and only a full
    # disconnect empties ``Signal.receivers``, which tells whether anybody listens at all.
    __slots__ = ("__weakref__", "_bus", "_kinds", "essential", "failures", "function", "number")

    def __init__(
        self,
        bus: Bus,
        number: int,
        kinds: tuple[type[Event], ...],
        function: Callable[[Any], object],
        *,
        essential: bool,
    ) -> None:
        self._bus = bus
        self._kinds = kinds
        self.number = number
        self.function = function
        self.essential = essential
        self.failures = 0

    def __call__(self, sender: object, *, event: Event) -> object:
        """Hear *event*, for whoever sends through the blinker signal itself."""
        return self.function(event)

    def __repr__(self) -> str:
        return f"<Subscription of {name_of(self.function)}>"

    def close(self) -> None:
        """Stop hearing. Closing twice is harmless; an event that is being published already may still be heard."""
        self._bus._unsubscribe(self, self._kinds)  # two halves of one object

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def receiver_of(function: Any) -> Any:
    """Whoever connected to a signal itself, where *function* tells them as blinker would; otherwise *function*."""
    is_foreign = isinstance(function, functools.partial) and function.func is hear_as_blinker
    return function.args[0] if is_foreign else function


def identity(receiver: Any) -> object:
    """What tells *receiver* from others, as for blinker: a bound method is another object each time it is looked up."""
    receiver = receiver_of(receiver)
    function = getattr(receiver, "__func__", None)
    return id(receiver) if function is None else (id(function), id(receiver.__self__))


def hear_as_blinker(receiver: Callable[..., object], event: Event) -> object:
    """Tell a receiver that connected to the signal itself, as blinker would."""
    return receiver(event.operation, event=event)
