"""A subscriber that raises breaks nothing else: it is counted, logged, and disabled after ten failures in a row."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import blinker

from events.bus_events import SubscriberFailed
from events.callables import name_of
from events.event import Event
from events.subscription import Subscription, identity, receiver_of

MAX_FAILURES = 10
"""Failures in a row after which a subscriber is disabled."""

log = logging.getLogger("recovery.bus")


class Failures:
    """The failures in a row of each subscriber of one bus."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_receivers: Counter[object] = Counter()  # those that were connected to a signal itself

    def forget(self, function: Callable[[Any], object]) -> None:
        """Note that a receiver, which was connected to a signal itself, has not failed this time."""
        if self._of_receivers:
            self._of_receivers.pop(identity(receiver_of(function)), None)

    def note(
        self,
        function: Callable[[Any], object],
        subscription: Subscription | None,
        signal: blinker.Signal,
        received: Event,
        error: Exception,
    ) -> SubscriberFailed | None:
        """Note that *function* raised *error* on an event; the event to publish about that, if there is one."""
        receiver = receiver_of(function)
        if subscription is not None:
            subscription.failures += 1
            disabled = subscription.failures >= MAX_FAILURES and not subscription.essential
            if disabled:
                subscription.close()
        else:
            self._of_receivers[identity(receiver)] += 1
            disabled = self._of_receivers[identity(receiver)] >= MAX_FAILURES
            if disabled:
                signal.disconnect(receiver)
        log.error(
            "subscriber %s failed on %s%s",
            name_of(receiver),
            type(received).__name__,
            f", {MAX_FAILURES} times in a row: it is disabled" if disabled else "",
            exc_info=error,
        )
        if isinstance(received, SubscriberFailed) and not disabled:
            return None  # or its failures would cause each other
        return SubscriberFailed(
            at=self._clock(),
            operation=received.operation,
            key=received.key,
            subscriber=name_of(receiver),
            received=type(received).__name__,
            error=type(error).__name__,
            disabled=disabled,
        )
