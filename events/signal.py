"""The signal of one kind of event: blinker's, but for subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import blinker

from events.subscription import Subscription


class EventSignal(blinker.Signal):
    """A ``blinker.Signal`` to which a subscription comes, and from which it goes, at the same cost among any number.

    blinker keeps a set for each sender that it ever had, and walks them all when a receiver disconnects. Subscriptions
    are kept by sender here, and nothing is kept of a closed one. All other receivers are blinker's.

    Args:
        doc: Its docstring.
        on_muted: Called when it is muted, or no longer.
    """

    def __init__(self, doc: str | None = None, on_muted: Callable[[], object] = lambda: None) -> None:
        self.is_silent = False
        """As ``is_muted``: a plain attribute, which each event reads."""
        self._on_muted = on_muted
        super().__init__(doc)
        self._subscriptions: dict[object, dict[int, Subscription]] = {}

    @property
    def is_muted(self) -> bool:
        """Whether nothing is received now, as for ``blinker.Signal``."""
        return self.is_silent

    @is_muted.setter
    def is_muted(self, is_muted: bool) -> None:
        if is_muted is not self.is_silent:
            self.is_silent = is_muted
            self._on_muted()

    def add(self, subscription: Subscription) -> None:
        """Connect *subscription* to the sender that it asks for."""
        self.receivers[id(subscription)] = subscription  # tells whether, and how many, receivers there are
        self._subscriptions.setdefault(subscription.sender, {})[subscription.number] = subscription
        self.receiver_connected.send(self, receiver=subscription, sender=subscription.sender, weak=False)

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """As for ``blinker.Signal``."""
        if isinstance(receiver, Subscription) and sender in (blinker.ANY, receiver.sender):
            same = self._subscriptions.get(receiver.sender, {})
            same.pop(receiver.number, None)
            if not same:
                self._subscriptions.pop(receiver.sender, None)
            sender = blinker.ANY  # it has no other, and this way blinker keeps nothing of it
        super().disconnect(receiver, sender)

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """As for ``blinker.Signal``: the subscriptions first."""
        yield from self._subscriptions_for(sender)
        yield from super().receivers_for(sender)

    def has_receivers_for(self, sender: Any) -> bool:
        """As for ``blinker.Signal``."""
        return bool(self._subscriptions_for(sender)) or super().has_receivers_for(sender)

    def _subscriptions_for(self, sender: object) -> list[Subscription]:
        to_any = self._subscriptions.get(blinker.ANY, {})
        to_one = self._subscriptions.get(sender, {}) if isinstance(sender, str) else {}
        return [*to_any.values(), *to_one.values()]
