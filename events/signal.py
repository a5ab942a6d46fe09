"""The signal of one kind of event: blinker's, but for subscriptions, and with the subscribers ready to be called."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator
from typing import Any

import blinker

from events.fork_locks import fork_safe
from events.names import part_of, sender_of
from events.ready import Ready, ReadyPair, ReadyParts
from events.subscription import Subscription, call_as_blinker, identity


class EventSignal(blinker.Signal):
    """A ``blinker.Signal`` to which a subscription comes, and from which it goes, at the same cost among any number.

    blinker keeps a set for each sender that it ever had, and walks them all when a receiver disconnects. Subscriptions
    are kept by operation and key here, and nothing is kept of a closed one. All other receivers are blinker's.

    The subscribers of an event are ready to be called. While no subscription names an operation, the events of all
    operations have the same: ``everywhere``, which is ``None`` otherwise. Only the parts that a subscription names
    have others: their number bounds what is kept.

    Args:
        doc: Its docstring.
        on_muted: Called when it is muted, or no longer.
        lock: Guards the subscriptions; subscribers that are ready are read without it.
    """

    def __init__(
        self,
        doc: str | None = None,
        on_muted: Callable[[], object] = lambda: None,
        lock: threading.RLock | None = None,
    ) -> None:
        self.is_silent = False
        """As ``is_muted``: a plain attribute, which each event reads."""
        self._on_muted = on_muted
        super().__init__(doc)
        self._lock = lock or fork_safe(threading.RLock())
        self._to_any: dict[int, Subscription] = {}
        self._narrow: dict[str, dict[str, dict[int, Subscription]]] = {}  # by operation, then by key
        self._ready = ReadyParts()  # those of ``_narrow``
        self._elsewhere: ReadyPair | None = None  # for all other parts
        self._count = 0
        self.everywhere: ReadyPair | None = None

    @property
    def reaches_any(self) -> bool:
        """Whether events of an operation that no subscription names may reach a receiver."""
        return bool(self._to_any) or self._has_foreign

    def names(self, operation: str) -> bool:
        """Whether a subscription names *operation* as a whole."""
        return "" in self._narrow.get(operation, ())

    @property
    def _has_foreign(self) -> bool:
        return len(self.receivers) != self._count  # those that blinker itself has connected

    @property
    def is_muted(self) -> bool:
        """Whether nothing is received now, as for ``blinker.Signal``."""
        return self.is_silent

    @is_muted.setter
    def is_muted(self, is_muted: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # blinker sets and reads it
        if is_muted is not self.is_silent:
            self.is_silent = is_muted
            self._on_muted()

    def add(self, subscription: Subscription) -> None:
        """Connect *subscription* to the sender that it asks for."""
        self.receivers[id(subscription)] = subscription  # tells whether, and how many, receivers there are
        self._count += 1
        sender = subscription.sender
        if isinstance(sender, str):
            operation, key = part_of(sender)
            same = self._narrow.setdefault(operation, {}).setdefault(key, {})
        else:
            same = self._to_any
        same[subscription.number] = subscription
        self.receiver_connected.send(self, receiver=subscription, sender=sender, weak=False)

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """As for ``blinker.Signal``."""
        if isinstance(receiver, Subscription) and sender in (blinker.ANY, receiver.sender):
            with self._lock:
                self._remove(receiver)
            sender = blinker.ANY  # it has no other, and this way blinker keeps nothing of it
        super().disconnect(receiver, sender)

    def _remove(self, subscription: Subscription) -> None:
        if self.receivers.pop(id(subscription), None) is None:
            return
        self._count -= 1
        if not isinstance(subscription.sender, str):
            del self._to_any[subscription.number]
            return
        operation, key = part_of(subscription.sender)
        keys = self._narrow[operation]
        del keys[key][subscription.number]
        if not keys[key]:
            del keys[key]
        if not keys:
            del self._narrow[operation]

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """As for ``blinker.Signal``: the subscriptions first."""
        yield from self._subscriptions_for(sender)
        yield from super().receivers_for(sender)

    def has_receivers_for(self, sender: Any) -> bool:
        """As for ``blinker.Signal``."""
        return bool(self._subscriptions_for(sender)) or super().has_receivers_for(sender)

    def _subscriptions_for(self, sender: object) -> list[Subscription]:
        operation, key = part_of(sender) if isinstance(sender, str) else ("", "")
        return [*self._to_any.values(), *self._narrow.get(operation, {}).get(key, {}).values()]

    def ready_for(self, operation: str, key: str) -> ReadyPair:
        """The subscribers of the events of *operation* and *key*, in the order in which they subscribed."""
        keys = self._narrow.get(operation, ())
        is_named = key in keys or "" in keys
        ready = self._ready.get(operation, key if key in keys else "") if is_named else self._elsewhere
        return self._make_ready(operation, key) if ready is None else ready

    def _make_ready(self, operation: str, key: str) -> ReadyPair:
        with self._lock:
            keys = self._narrow.get(operation, {})
            senders: list[object] = [operation]
            if "\0" in operation:  # in an event from elsewhere: no subscription can name that operation
                senders = [blinker.ANY]
            elif key:
                senders.append(sender_of(operation, key))
            receivers = {identity(one): one for sender in senders for one in self.receivers_for(sender)}
            ours = sorted((one for one in receivers.values() if isinstance(one, Subscription)), key=lambda s: s.number)
            foreign = [one for one in receivers.values() if not isinstance(one, Subscription)]
            details: Ready = tuple((one.function, one) for one in ours)
            quiet: Ready = tuple((one.function, one) for one in ours if not one.is_detail)
            if self._has_foreign:
                # One may be weakly referenced: what is kept would keep it alive.
                called = tuple((functools.partial(call_as_blinker, one), None) for one in foreign)
                return quiet + called, details + called
            ready = (quiet, details)
            if key in keys or "" in keys:
                self._ready.keep(operation, key if key in keys else "", ready)
            else:
                self._elsewhere = ready
                self._note_whether_uniform()
            return ready

    def changed(self, operation: str | None, key: str) -> None:
        """Forget what is ready where a receiver came or went: of all operations for None, of all keys for ""."""
        with self._lock:
            if operation is None or self._has_foreign:
                self._ready.clear()
                self._elsewhere = None
            else:
                self._ready.drop(operation, key)
            self._note_whether_uniform()

    def _note_whether_uniform(self) -> None:
        self.everywhere = None if self._narrow or self._has_foreign else self._elsewhere
