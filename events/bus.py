"""The in-process bus: events go in, the strictest opinion comes out.

A subscriber is a function from one event to what that event causes: another event, a verdict, or nothing. Publishing
runs on the caller's thread until nothing more is caused; it never waits and never does I/O of its own.

Each kind of event is one ``blinker.Signal``, and ``bus.signal(GaveUp).connect(...)`` works as blinker documents it: the
receiver gets the operation's name as sender and the event as ``event=``. Signals are used for what they do well
(registration, weak references, senders); a send through blinker builds sets each time, so publishing goes over a
ready tuple per (event, operation, key) instead, dropped whenever a receiver comes or goes.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import blinker

from events.bus_events import SubscriberFailed
from events.callables import is_async, name_of
from events.event import Event
from events.fork_locks import fork_safe
from events.kinds import EVENTS, ON_REQUEST, kinds_of
from events.subscription import Subscription, hear_as_blinker, identity, receiver_of
from events.verdicts import VERDICTS, Retry, Verdict, check, settle

if TYPE_CHECKING:
    from events.operation import Operation

F = TypeVar("F", bound=Event)
Subscriber: TypeAlias = Callable[[Any], object]
Ready: TypeAlias = "tuple[tuple[Subscriber, Subscription | None], ...]"

MAX_CASCADE = 64
"""How many events one publish may cause before the rest are dropped: a pair of subscribers can answer each other."""

MAX_READY = 8192
"""How many ready tuples are kept; they are made anew in microseconds."""

MAX_FAILURES = 10
"""How often in a row a subscriber may raise before it is set aside."""

log = logging.getLogger("recovery.bus")


class Bus:
    """Events in, verdicts out, in one process. Safe to use from any thread.

    *clock* reads seconds that only ever grow (default ``time.monotonic``). *run* is a short name for this process's
    run, unique among all runs that share a journal (default: 8 random hex digits); call ids begin with it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, run: str | None = None) -> None:
        self.clock = clock
        self.run = run or secrets.token_hex(4)
        self.ignored_verdicts = 0
        self.dropped_events = 0
        self._calls = itertools.count(1)
        self._numbers = itertools.count()
        self._lock = fork_safe(threading.RLock())
        self._signals: dict[type[Event], blinker.Signal] = {}
        self._ready: dict[tuple[type[Event], str, str], Ready] = {}
        self._operations: weakref.WeakSet[Operation] = weakref.WeakSet()
        self._foreign_failures: dict[object, int] = {}
        for kind in EVENTS:
            self._signals[kind] = self._new_signal(kind)

    def _new_signal(self, kind: type[Event]) -> blinker.Signal:
        signal = blinker.Signal(kind.__doc__)
        signal.receiver_connected.connect(self._receivers_changed, weak=False)
        signal.receiver_disconnected.connect(self._receivers_changed, weak=False)
        return signal

    def signal(self, kind: type[Event]) -> blinker.Signal:
        """The blinker signal of one kind of event. Raises TypeError for a base class or anything else."""
        try:
            return self._signals[kind]
        except KeyError:
            raise TypeError(f"{kind!r} is not a kind of event that has a signal") from None

    def subscribe(
        self,
        kinds: type[F] | Iterable[type[F]],
        function: Callable[[F], object],
        *,
        operation: str | None = None,
        key: str | None = None,
        essential: bool = False,
    ) -> Subscription:
        """Call *function* with every event of these *kinds* from now on, strongly referenced until closed.

        A base class stands for all kinds below it, except ``OperationStarted`` and ``OperationSucceeded``: a healthy
        call costs nothing only as long as nobody asks for those, so they are asked for by name. *operation* and
        *key* narrow it down to events of that operation, or that part of it. What the function returns (an event, a
        verdict, or ``None``) is acted on; if it raises, that is logged and published as ``SubscriberFailed``, and after
        ten times in a row it is set aside, unless it is *essential*.

        Raises TypeError for what is no event, for a function that cannot be called, and for a coroutine function:
        nobody
        would await it.
        """
        if not callable(function):
            raise TypeError(f"a subscriber is called with the event; {function!r} cannot be called")
        if is_async(function):
            raise TypeError(
                f"{name_of(function)} is a coroutine function; publishing never awaits, pass a plain function"
            )
        if key is not None and operation is None:
            raise TypeError("key= narrows an operation down; name the operation too")
        wanted = [kinds] if isinstance(kinds, type) else list(kinds)
        expanded = tuple(dict.fromkeys(kind for one in wanted for kind in kinds_of(one)))
        subscription = Subscription(self, next(self._numbers), expanded, function, essential=essential)
        sender = blinker.ANY if operation is None else sender_of(operation, key)
        with self._lock:
            for kind in expanded:
                self._signals[kind].connect(subscription, sender=sender, weak=False)
        return subscription

    def _unsubscribe(self, subscription: Subscription, kinds: tuple[type[Event], ...]) -> None:
        with self._lock:
            for kind in kinds:
                self._signals[kind].disconnect(subscription)

    def has_subscribers(self, kind: type[Event], operation: str = "", key: str = "") -> bool:
        """Whether anybody would hear such an event: an event that nobody hears need not be built."""
        ready = self._ready.get((kind, operation, key))
        if ready is None:
            ready = self._make_ready(kind, operation, key)
        return bool(ready)

    def publish(self, event: Event) -> Verdict | None:
        """Tell everybody, and return the strictest of their verdicts, or ``None`` if nobody has an opinion.

        Verdicts count only where the event asks for them (a start, a failure and its classification); others are
        ignored and counted in ``ignored_verdicts``. Never waits, and raises nothing that a subscriber raised.
        A signal handler sets a flag or raises instead: a journal drops, and counts, what interrupts it.
        """
        return self.cascade(event)[0]

    def cascade(self, event: Event) -> tuple[Verdict | None, list[Event]]:
        """As ``publish``, and also every event that came of it, *event* itself first."""
        events = [event]
        verdicts: list[Verdict] = []
        signals = self._signals
        for current in events:  # grows while it is walked
            kind = type(current)
            ready = self._ready.get((kind, current.operation, current.key))
            if ready is None:
                ready = self._make_ready(kind, current.operation, current.key)
            if not ready or signals[kind].is_muted:
                continue
            for function, subscription in ready:
                try:
                    answer = function(current)
                    if answer is not None:
                        if type(answer) is Retry and kind.asks:  # as ``_take``, for most of what there is to take
                            check(answer)
                            verdicts.append(answer)
                        else:
                            self._take(answer, current, events, verdicts)
                except Exception as error:  # an observer never breaks an operation
                    self._failed(function, subscription, current, error, events)
                else:
                    if subscription is None:
                        self._foreign_failures.pop(identity(function), None)
                    elif subscription.failures:
                        subscription.failures = 0
        return settle(verdicts) if verdicts else None, events

    def _take(self, answer: object, heard: Event, events: list[Event], verdicts: list[Verdict]) -> None:
        if type(answer) in self._signals:
            self._add(answer, events)  # type: ignore[arg-type]  # each kind that has a signal is one of events
        elif isinstance(answer, VERDICTS):
            if heard.asks:
                check(answer)
                verdicts.append(answer)
            else:
                self.ignored_verdicts += 1
        elif isinstance(answer, tuple | list):
            for one in answer:
                if inspect.iscoroutine(one):
                    one.close()
            for one in answer:
                self._take(one, heard, events, verdicts)
        elif isinstance(answer, Event):
            self.signal(type(answer))  # which says that it has none
        elif answer is not None:
            if inspect.iscoroutine(answer):
                answer.close()
            raise TypeError(f"answered with {type(answer).__name__}; a subscriber returns an event, a verdict or None")

    def _add(self, caused: Event, events: list[Event]) -> None:
        if len(events) < MAX_CASCADE:
            events.append(caused)
            return
        if self.dropped_events == 0:
            log.error("events cause events without end, the latest %s; dropped", type(caused).__name__)
        self.dropped_events += 1

    def _failed(
        self,
        function: Subscriber,
        subscription: Subscription | None,
        heard: Event,
        error: Exception,
        events: list[Event],
    ) -> None:
        if subscription is not None:
            subscription.failures += 1
            disabled = subscription.failures >= MAX_FAILURES and not subscription.essential
            if disabled:
                subscription.close()
        else:
            receiver = identity(function)
            self._foreign_failures[receiver] = self._foreign_failures.get(receiver, 0) + 1
            disabled = self._foreign_failures[receiver] >= MAX_FAILURES
            if disabled:
                self.signal(type(heard)).disconnect(receiver_of(function))
        log.error(
            "subscriber %s failed on %s%s",
            name_of(receiver_of(function)),
            type(heard).__name__,
            f", {MAX_FAILURES} times in a row: it is set aside" if disabled else "",
            exc_info=error,
        )
        if disabled or not isinstance(heard, SubscriberFailed):  # no feedback loop: it is set aside once
            failed = SubscriberFailed(
                at=self.clock(),
                operation=heard.operation,
                key=heard.key,
                subscriber=name_of(receiver_of(function)),
                heard=type(heard).__name__,
                error=type(error).__name__,
                disabled=disabled,
            )
            self._add(failed, events)

    def begin_run(self) -> None:
        """Take a new name for this process's run: after a fork, so that calls of parent and child differ."""
        self.run = secrets.token_hex(4)

    def new_call(self) -> str:
        """An id for a new call, unique among all runs."""
        return f"{self.run}-{next(self._calls)}"

    def _register(self, operation: Operation) -> None:
        with self._lock:
            self._operations.add(operation)
            operation.is_observed = self.observes(operation)

    def operations(self) -> tuple[Operation, ...]:
        """The operations on this bus that somebody holds."""
        with self._lock:
            return tuple(self._operations)

    def observes(self, operation: Operation) -> bool:
        """Whether anybody hears the starts or the successes of *operation*."""
        return any(self.has_subscribers(kind, operation.name, operation.key) for kind in ON_REQUEST)

    def _receivers_changed(self, signal: blinker.Signal, sender: object = blinker.ANY, **_: object) -> None:
        # A seat that is closed leaves by its identity alone, so blinker cannot say whom it heard.
        def concerns(operation: str, key: str) -> bool:
            return sender is blinker.ANY or sender in (operation, sender_of(operation, key))

        with self._lock:
            self._ready = {part: ready for part, ready in self._ready.items() if not concerns(*part[1:])}
            if any(self._signals.get(kind) is signal for kind in ON_REQUEST):
                for operation in self._operations:
                    if concerns(operation.name, operation.key):
                        operation.is_observed = self.observes(operation)

    def _make_ready(self, kind: type[Event], operation: str, key: str) -> Ready:
        with self._lock:
            signal = self.signal(kind)
            receivers = {identity(one): one for one in signal.receivers_for(operation)}
            if key:
                receivers |= {identity(one): one for one in signal.receivers_for(sender_of(operation, key))}
            subscriptions = sorted(
                (one for one in receivers.values() if isinstance(one, Subscription)), key=lambda s: s.number
            )
            ready: Ready = tuple((subscription.function, subscription) for subscription in subscriptions)
            if len(subscriptions) == len(receivers):
                if len(self._ready) >= MAX_READY:
                    self._ready = {}
                self._ready[kind, operation, key] = ready
                return ready
            # Whoever connected to the signal itself may be weakly referenced: a ready tuple would keep them alive.
            foreign = [one for one in receivers.values() if not isinstance(one, Subscription)]
            return (*ready, *((functools.partial(hear_as_blinker, one), None) for one in foreign))


def sender_of(operation: str, key: str | None) -> str:
    """What blinker knows an operation, or a keyed part of it, by."""
    return f"{operation}[{key}]" if key else operation
