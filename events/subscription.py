"""A seat on the bus: what ``subscribe`` gives, and what blinker knows a subscriber by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from events.facts import Fact
from events.receivers import name_of

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
        kinds: tuple[type[Fact], ...],
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

    def __call__(self, sender: object, *, fact: Fact) -> object:
        """Hear *fact*, for whoever sends through the blinker signal itself."""
        return self.function(fact)

    def __repr__(self) -> str:
        return f"<Subscription of {name_of(self.function)}>"

    def close(self) -> None:
        """Stop hearing. Closing twice is harmless; a fact that is being published already may still be heard."""
        self._bus._unsubscribe(self, self._kinds)  # two halves of one object

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
