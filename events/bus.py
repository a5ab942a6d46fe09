"""The in-process bus: events go in, the strictest verdict comes out.

A subscriber is a function from one event to what that event causes: another event, a verdict, or nothing. Publishing
runs on the caller's thread until nothing more is caused; it never waits and does no I/O of its own.

Each kind of event is one ``blinker.Signal``, and ``bus.signal(GaveUp).connect(...)`` works as blinker documents it: the
receiver gets the operation's name as sender and the event as ``event=``. A send through blinker builds sets each time,
so publishing goes over tuples of subscribers that the signal keeps ready.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, Unpack, overload

import blinker

from events.callables import close_coroutines, name_of
from events.event import Event
from events.fork_locks import begins_run_after_fork, fork_safe
from events.isolation import Failures, gives_up_on_error, log
from events.kinds import EVENTS, OF_RETRIES, ON_REQUEST, kinds_of
from events.names import check_name, part_of, sender_of
from events.observed import Members, Observed
from events.ready import Ready
from events.signal import EventSignal
from events.subscription import Narrowing, OnError, Subscription, check_subscriber
from events.verdicts import VERDICTS, GiveUp, Retry, Verdict, check, settle

F = TypeVar("F", bound=Event)

MAX_CASCADE = 64
"""Events that one publish may cause; the rest are dropped, because a pair of subscribers can answer each other."""

# Details are for a log that wants INFO. Its level is read without ``isEnabledFor``: one more call for each failure.
LOGGER, ROOT, INFO = logging.getLogger("recovery"), logging.getLogger(), logging.INFO


class BusOperation(Protocol):
    """What the bus, and a call, need of an operation (``events.Operation``)."""

    name: str
    key: str
    bus: Bus
    successes: int
    observed: Observed
    generation: int


class Bus:
    """Events in, verdicts out, in one process. Safe to use from any thread.

    Args:
        clock: Reads seconds that only ever grow; default ``time.monotonic``.
        run: A name for this process's run, unique among those of a journal; default 8 random hex digits. Call ids
            begin with it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, run: str | None = None) -> None:
        self.clock = clock
        self.run = run or os.urandom(4).hex()
        self.ignored_verdicts = 0
        """Verdicts given to events that ask for none."""
        self.dropped_events = 0
        """Events that were dropped because subscribers answered each other without end."""
        self.call_numbers = itertools.count(1)
        """The next of them makes, after the run and a dash, the id of a new call."""
        self.generation = 0
        """Changes of what the calls of all operations depend on; those of one are in ``Operation.generation``."""
        self.stops: tuple[tuple[float, float], ...] = ()
        """When the process went on after it was stopped, and for how many seconds; the latest ones."""
        self._numbers = itertools.count()
        self._lock = fork_safe(threading.RLock())
        self._signals: dict[type[Event], EventSignal] = {}
        self._failures = Failures(clock)
        for kind in EVENTS:
            signal = self._signals[kind] = EventSignal(kind.__doc__, self.invalidate, self._lock)
            changed = functools.partial(self._receivers_changed, kind)
            signal.receiver_connected.connect(changed, weak=False)
            signal.receiver_disconnected.connect(changed, weak=False)
        self._operations: Members[BusOperation] = Members([self._signals[kind] for kind in ON_REQUEST])
        begins_run_after_fork(self)

    def __repr__(self) -> str:
        subscribers = {id(one) for signal in self._signals.values() for one in signal.receivers.values()}
        return f"<Bus: run {self.run}, {len(subscribers)} subscribers>"

    def signal(self, kind: type[Event]) -> EventSignal:
        """The blinker signal of one kind of event. Raises TypeError for a base class or anything else."""
        try:
            return self._signals[kind]
        except KeyError:
            raise TypeError(f"{kind!r} is not a kind of event that has a signal") from None

    @overload
    def subscribe(self, kinds: type[F], function: Callable[[F], object], **how: Unpack[Narrowing]) -> Subscription: ...

    @overload  # checkers join several kinds to a base class, which a function of their union does not take: hence Any
    def subscribe(
        self, kinds: Iterable[type[Event]], function: Callable[[Any], object], **how: Unpack[Narrowing]
    ) -> Subscription: ...

    def subscribe(
        self,
        kinds: type[Event] | Iterable[type[Event]],
        function: Callable[[Any], object],
        *,
        operation: str | None = None,
        key: str | None = None,
        essential: bool = False,
        is_detail: bool = False,
        on_error: OnError = "ignore",
        queue: int | None = None,
    ) -> Subscription:
        """Call *function* with every event of these *kinds* from now on; it is strongly referenced until closed.

        What the function returns (an event, a verdict, or ``None``) is acted on. If it raises, that is logged and
        published as ``SubscriberFailed``; after ten failures in a row it is disabled. One that names an event that asks
        (``OperationStarted``, ``OperationFailed``, ``FailureClassified``) has no opinion then, logged once a minute.

        Args:
            kinds: One kind of event, or several. A base class stands for all kinds below it, except the two of a
                healthy call, ``OperationStarted`` and ``OperationSucceeded``: unheard, they cost nothing. Name those.
            function: A plain function of one argument, the event; with a *queue* also an async one.
            operation: Only events of the operation of that name.
            key: Only events of that key of it.
            essential: Never disable it, however often it raises.
            is_detail: Deliver it only while the logger ``recovery`` wants INFO, or its publisher says it is no detail.
            on_error: What it answers when it raises: "ignore", nothing; "give up", ``GiveUp``, which ends the call.
            queue: For a slow observer: a thread calls *function*, or the running loop an async one, while so many
                events wait. More are dropped and counted (``EventsDropped``). It cannot answer.

        Raises:
            TypeError: No event, no plain function, a *queue* or *operation* of a wrong type, a *key* without operation.
            ValueError: A NUL in *operation*, a *queue* below 1, *on_error* is unknown, or cannot "give up" here.
            RuntimeError: An async *function*, and no loop runs.
        """
        check_subscriber(function, operation, key, queue)
        wanted: Iterable[Any] = [kinds] if isinstance(kinds, type | str) or not isinstance(kinds, Iterable) else kinds
        expanded = tuple(dict.fromkeys(kind for one in wanted for kind in kinds_of(one)))
        sender = blinker.ANY if operation is None else sender_of(check_name(operation), key)
        disconnect = functools.partial(self._unsubscribe, expanded)
        gives_up = gives_up_on_error(on_error, expanded if queue is None else ())
        essential = essential or gives_up or (queue is None and any(getattr(one, "asks", False) for one in wanted))
        subscription = Subscription(next(self._numbers), function, sender, disconnect, essential, is_detail, gives_up)
        if queue:
            from events.queued import Queue  # here, for these alone

            subscription.function = subscription.queue = Queue(subscription, queue, self, self._failures)
        with self._lock:
            for kind in expanded:
                self._signals[kind].add(subscription)
        return subscription

    def _unsubscribe(self, kinds: tuple[type[Event], ...], subscription: Subscription) -> None:
        with self._lock:
            for kind in kinds:
                self._signals[kind].disconnect(subscription)

    def has_subscribers(self, kind: type[Event], operation: str = "", key: str = "", *, is_detail: bool = True) -> bool:
        """Whether such an event would reach a subscriber: otherwise it need not be built.

        One that *is_detail* reaches the subscribers of details only while the log wants details.
        """
        signal = self._signals.get(kind) or self.signal(kind)
        ready = signal.everywhere or signal.ready_for(operation, key)
        return bool(ready[not is_detail or (LOGGER.level or ROOT.level) <= INFO])

    def publish(self, event: Event) -> Verdict | None:
        """Call every subscriber of *event*, and return the strictest of their verdicts, ``None`` if there is none.

        Verdicts count only where the event asks for them (a start, a failure and its classification); others are
        ignored and counted in ``ignored_verdicts``. Never waits, and raises nothing that a subscriber raised.
        A signal handler sets a flag or raises instead: a journal drops, and counts, what interrupts it.
        """
        return self.cascade(event)[0]

    def cascade(
        self, event: Event, *, is_detail: bool = True, to: Ready | None = None
    ) -> tuple[Verdict | None, list[Event]]:
        """As ``publish``, and also every event that it caused, *event* itself first; *to* are its own subscribers."""
        events = [event]
        verdicts: list[Verdict] = []
        stopped: BaseException | None = None
        signals = self._signals
        details = not is_detail or (LOGGER.level or ROOT.level) <= INFO
        for current in events:  # grows while it is walked
            kind = type(current)
            signal = signals.get(kind) or self.signal(kind)
            ready = to
            if ready is None:
                ready = (signal.everywhere or signal.ready_for(current.operation, current.key))[details]
            if not ready or (signal.is_silent and to is None):  # *to* have begun to get it
                continue
            to = None
            asks = kind.asks
            for function, subscription in ready:
                try:
                    answer: Any = function(current)  # the usual answers as ``_take`` takes them, in 2 % less time
                    if answer is None:
                        pass
                    elif type(answer) in signals and len(events) < MAX_CASCADE:
                        events.append(answer)
                    elif (
                        type(answer) is Retry and asks and type(answer.after) is float and answer.after <= answer.within
                    ):
                        verdicts.append(answer)
                    else:
                        self._take(answer, current, events, verdicts)
                except Exception as error:  # an observer never breaks an operation
                    failed = self._failures.note(function, subscription, signal, current, error)
                    if failed is not None:
                        self._add(failed, events)
                    if asks and subscription is not None and subscription.gives_up:
                        verdicts.append(GiveUp(f"subscriber {name_of(function)} failed, {type(error).__name__}"))
                except BaseException as stop:  # Ctrl-C: every subscriber gets the end of a call
                    if not kind.ends:
                        raise
                    stopped = stop
                else:
                    if subscription is None:
                        self._failures.forget(function)
                    elif subscription.trouble is not None:
                        subscription.trouble.failures = 0
        if stopped is not None:
            raise stopped
        if len(verdicts) == 1 and type(verdicts[0]) is Retry and verdicts[0].after <= verdicts[0].within:
            return verdicts[0], events  # as ``settle``
        return settle(verdicts) if verdicts else None, events

    def _take(self, answer: object, received: Event, events: list[Event], verdicts: list[Verdict]) -> None:
        if type(answer) in self._signals:
            self._add(answer, events)  # type: ignore[arg-type]  # each kind that has a signal is one of events
        elif isinstance(answer, VERDICTS):
            if received.asks:
                check(answer)
                verdicts.append(answer)
            else:
                self.ignored_verdicts += 1
        elif isinstance(answer, tuple | list):
            close_coroutines(*answer)
            for one in answer:
                self._take(one, received, events, verdicts)
        elif isinstance(answer, Event):
            self.signal(type(answer))  # raises: it has none
        elif answer is not None:
            close_coroutines(answer)
            raise TypeError(f"answered with {type(answer).__name__}; a subscriber returns an event, a verdict or None")

    def _add(self, caused: Event, events: list[Event]) -> None:
        if len(events) < MAX_CASCADE:
            events.append(caused)
            return
        if self.dropped_events == 0:
            log.error("events cause events without end, the latest %s; dropped", type(caused).__name__)
        self.dropped_events += 1

    def begin_run(self) -> None:
        """Take a new name for this process's run. Each forked child does, so that calls of parent and child differ."""
        self.run = os.urandom(4).hex()

    def new_call_id(self) -> str:
        """An id for a new call, unique among all runs."""
        return f"{self.run}-{next(self.call_numbers)}"

    def register(self, operation: BusOperation) -> None:
        """Keep ``observed`` of *operation* up to date while it is referenced. ValueError: its name holds a NUL."""
        check_name(operation.name)
        with self._lock:
            self._operations.add(operation)

    def operations(self) -> tuple[BusOperation, ...]:
        """The operations on this bus that are referenced elsewhere."""
        with self._lock:
            return tuple(self._operations.all())

    def operations_of(self, name: str, key: str = "") -> list[BusOperation]:
        """Those of that name and key."""
        with self._lock:
            return self._operations.of((name, key))

    def observes(self, operation: BusOperation) -> bool:
        """Whether starts or successes of *operation* have a subscriber."""
        return any(self.has_subscribers(kind, operation.name, operation.key) for kind in ON_REQUEST)

    def look_for_observers(self) -> None:
        """Look again whether starts and successes have subscribers: a weak receiver goes without notice."""
        with self._lock:
            self._operations.look_again()

    def _receivers_changed(self, kind: type[Event], _: object, receiver: object, sender: object, **__: object) -> None:
        """Have the subscribers found again that the change concerns, and set ``observed`` of the operations."""
        if isinstance(receiver, Subscription):
            sender = receiver.sender  # one that is closed leaves by its identity alone
        operation, key = part_of(sender) if isinstance(sender, str) else (None, "")
        with self._lock:
            self._signals[kind].changed(operation, key)
            if kind in ON_REQUEST:
                self._operations.changed(operation, key)
            if kind in ON_REQUEST or kind in OF_RETRIES:
                self.invalidate(operation, key)

    def invalidate(self, operation: str | None = None, key: str = "") -> None:
        """Begin a new generation of *operation* and *key* (None: of all): what their calls depend on has changed."""
        with self._lock:
            if operation is None:
                self.generation += 1
            else:
                for one in self._operations.of((operation, key)):
                    one.generation += 1

    def subscribers(self, kind: type[Event], operation: str, key: str = "", *, details: bool) -> Ready:
        """The subscribers of such events, in order; those of details where the log wants *details*."""
        return self.signal(kind).ready_for(operation, key)[details]
