"""A subscriber that raises breaks nothing else: it is counted and logged.

After ten failures in a row it is disabled, unless it decides about calls: then it is logged once a minute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import blinker

from events.bus_events import SubscriberFailed
from events.callables import name_of
from events.event import Event
from events.own_log import own_log
from events.subscription import OnError, Subscription, Trouble, identity, receiver_of

MAX_FAILURES = 10
"""Failures in a row after which a subscriber is disabled."""

LOG_INTERVAL = 60.0
"""Seconds between two log lines about a subscriber that is not disabled."""

log = own_log("recovery.bus")


def gives_up_on_error(on_error: OnError, kinds: Iterable[type[Event]]) -> bool:
    """Whether a subscriber to *kinds* answers with ``GiveUp`` when it raises.

    Raises:
        ValueError: There is no such *on_error*, or none of *kinds* asks for a verdict.
    """
    if on_error not in ("ignore", "give up"):
        raise ValueError(f"on_error must be one of 'ignore', 'give up', not {on_error!r}")
    if on_error == "give up" and not any(kind.asks for kind in kinds):
        raise ValueError(
            "on_error='give up' needs an event that asks (OperationStarted, OperationFailed or FailureClassified), "
            "and no queue"
        )
    return on_error == "give up"


class Failures:
    """The failures in a row of each subscriber of one bus."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of_receivers: defaultdict[object, Trouble] = defaultdict(Trouble)  # connected to a signal itself

    def forget(self, function: Callable[[Any], object]) -> None:
        """Note that a receiver, which was connected to a signal itself, has not failed this time."""
        if self._of_receivers and (trouble := self._of_receivers.get(identity(receiver_of(function)))) is not None:
            trouble.failures = 0

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
        if subscription is None:
            trouble, is_kept = self._of_receivers[identity(receiver)], received.asks
        else:
            trouble = subscription.trouble = subscription.trouble or Trouble()
            is_kept = subscription.essential
        trouble.failures += 1
        disabled = trouble.failures >= MAX_FAILURES and not is_kept
        if disabled and subscription is not None:
            subscription.close()
        elif disabled:
            signal.disconnect(receiver)
            del self._of_receivers[identity(receiver)]
        now = self._clock()
        if is_kept and trouble.logged is not None and now - trouble.logged < LOG_INTERVAL:
            trouble.unlogged += 1
        else:
            times = "1 time" if trouble.unlogged == 1 else f"{trouble.unlogged} times"
            more = f", and {times} since the line before" if trouble.unlogged else ""
            trouble.logged, trouble.unlogged = now, 0  # first: a handler of the log may fail in the same way
            log.error(
                "subscriber %s failed on %s%s%s",
                name_of(receiver),
                type(received).__name__,
                more,
                f", {MAX_FAILURES} times in a row: it is disabled" if disabled else "",
                exc_info=error,
            )
        if isinstance(received, SubscriberFailed) and not disabled:
            return None  # or its failures would cause each other
        return SubscriberFailed(
            at=now,
            operation=received.operation,
            key=received.key,
            subscriber=name_of(receiver),
            received=type(received).__name__,
            error=type(error).__name__,
            disabled=disabled,
        )
