"""Subscribers with a queue: slow observers that get their events on a thread, or on the loop of an async function.

Publishing puts the event into the queue and goes on. One thread, or one task, delivers what is queued, in order. It
starts with the first event and ends when there is nothing to do, so that a bus that is no longer used leaves none.
"""

from __future__ import annotations

import atexit
import contextvars
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Protocol
from weakref import WeakSet

from events.bus_events import EventsDropped
from events.callables import close_coroutines, is_async, name_of
from events.event import Event
from events.fork_locks import begins_run_after_fork, fork_safe
from events.isolation import Failures, log
from events.signal import EventSignal
from events.subscription import Subscription

DRAIN_SECONDS = 5.0
"""The most seconds that a close waits until what is queued is delivered."""

IDLE_SECONDS = 1.0
"""Seconds without an event after which a thread ends; the next event starts another."""


class QueueBus(Protocol):
    """What a queue needs of its bus."""

    clock: Callable[[], float]

    def publish(self, event: Event) -> object:
        """Publish what the queue has to say."""

    def signal(self, kind: type[Event]) -> EventSignal:
        """The signal of a kind of event."""
        ...


class Loop(NamedTuple):
    """A loop, asyncio's or trio's: *soon* takes a function from any thread, *spawn* begins a task."""

    soon: Callable[[Callable[[], object]], object]
    spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object]
    event: Callable[[], Any]
    thread: int


def running_loop(purpose: str) -> Loop:
    """The loop that runs in this thread. Raises RuntimeError, which names the *purpose*, if there is none."""
    # Neither library is imported for this: a loop that runs has been imported.
    trio, asyncio = sys.modules.get("trio"), sys.modules.get("asyncio")
    context, here = contextvars.copy_context(), threading.get_ident()
    if trio is not None:
        with suppress(RuntimeError):
            soon, spawn = trio.lowlevel.current_trio_token().run_sync_soon, trio.lowlevel.spawn_system_task
            return Loop(soon, lambda body: spawn(body, context=context), trio.Event, here)
    loop = None if asyncio is None else asyncio._get_running_loop()
    if asyncio is None or loop is None:
        raise RuntimeError(f"no event loop runs here: {purpose}")
    create = loop.create_task
    return Loop(loop.call_soon_threadsafe, lambda body: create(body(), context=context), asyncio.Event, here)


class Queue:
    """The events that one subscriber has yet to receive. A call puts an event in. Safe in any thread.

    Args:
        subscription: Its subscription.
        size: How many events wait; further ones are dropped.
        bus: The bus.
        failures: The bus's.

    Raises:
        RuntimeError: The subscriber is async, and no loop runs in this thread.
    """

    def __init__(self, subscription: Subscription, size: int, bus: QueueBus, failures: Failures) -> None:
        self.bus = bus
        self.dropped = 0
        """Events that were published to the subscriber and never reached it."""
        self._function: Callable[[Any], Any] = subscription.function
        self.__qualname__ = name_of(subscription.function)  # as it is called in messages
        self._subscription, self._size, self._failures = subscription, size, failures
        self._loop: Loop | None = None
        if is_async(subscription.function):
            self._loop = running_loop(f"subscribe {self.__qualname__} in async code, on the loop that is to call it")
        self._lost = ""  # why nothing can be delivered any more
        self._is_closed = self._is_reported = self._has_answered = self._may_be_disabled = False
        # Not a plain lock: a finalizer, or a signal handler, may publish while its thread is in here.
        self._lock = fork_safe(threading.RLock())
        self._begin()
        begins_run_after_fork(self)
        with _lock:
            _queues.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition(self._lock)
        self._events: deque[Event] = deque()
        self._has_consumer = self._is_delivering = self._is_idle = False
        self._thread = 0 if self._loop is None else self._loop.thread  # where it is delivered
        self._task: object = None  # asyncio references its tasks weakly

    def begin_run(self) -> None:
        """Begin without events in a forked child: the parent delivers those that were queued there."""
        self._begin()
        if self._loop is not None:
            self._lost = "its loop runs in the parent process"

    def __call__(self, event: Event) -> EventsDropped | None:
        """Queue *event*; where there is no room, drop it, and answer with an event the first time."""
        with self._changed:
            if self._is_closed or self._lost or len(self._events) >= self._size:
                self.dropped += 1
            else:
                self._events.append(event)
                if not self._has_consumer:
                    self._start()
                elif self._is_idle:
                    self._changed.notify_all()
                if not self._lost:
                    return None
            if self._is_reported or self._is_closed:
                return None
            self._is_reported = True
            reason = self._lost or f"its queue of {self._size} events is full"
        log.warning("events are dropped for subscriber %s: %s", self.__qualname__, reason)
        return EventsDropped(
            at=self.bus.clock(), operation=event.operation, key=event.key, subscriber=self.__qualname__, reason=reason
        )

    def _start(self) -> None:
        """Start the thread, or the task, that delivers. If that cannot be done, what is queued is dropped."""
        loop = self._loop
        try:
            if loop is not None:
                loop.soon(self._spawn)
            elif sys.is_finalizing():  # before CPython 3.12 ``Thread.start`` never returns then
                raise RuntimeError("the interpreter is shutting down")
            else:
                name = f"recovery-queue-{self.__qualname__}"
                threading.Thread(target=self._consume_in_thread, name=name, daemon=True).start()
            self._has_consumer = True
        except RuntimeError as error:  # trio's error is one, too
            self._lose(str(error) or "its loop has ended")

    def _spawn(self) -> None:
        """Begin the task that delivers; trio takes none while its run ends."""
        assert self._loop is not None
        with self._changed:
            left = len(self._events)
            try:
                if left:
                    self._task = self._loop.spawn(self._consume_in_task)
                else:
                    self._has_consumer = False
            except RuntimeError as error:
                self._has_consumer = False
                self._lose(str(error))
        if left and self._lost:
            log.warning("events dropped for subscriber %s: %d: %s", self.__qualname__, left, self._lost)

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self._drop_queued()

    def _drop_queued(self) -> None:
        self.dropped += len(self._events)
        self._events.clear()

    def _consume_in_thread(self) -> None:
        self._thread = threading.get_ident()
        try:
            while (event := self._next(IDLE_SECONDS)) is not None:
                try:
                    self._accept(self._function(event))
                except Exception as error:  # is isolated, as within publish
                    self._note(event, error)
        except BaseException:
            self._rest()
            raise

    async def _consume_in_task(self) -> None:
        try:
            while (event := self._next(0.0)) is not None:
                try:
                    self._accept(await self._function(event))
                except Exception as error:
                    self._note(event, error)
        except BaseException:  # cancelled, with the loop
            self._rest()
            raise

    def _next(self, seconds: float) -> Event | None:
        """The next event, waited for up to *seconds*; without one, the caller is the consumer no longer."""
        with self._changed:
            self._is_delivering = False
            if not self._events:
                self._changed.notify_all()  # those that wait until all is delivered
                self._is_idle = True
                self._changed.wait_for(lambda: self._events or self._is_closed, seconds)
                self._is_idle = False
            self._has_consumer = self._is_delivering = bool(self._events)
            return self._events.popleft() if self._events else None

    def _rest(self) -> None:
        """The consumer was ended: the next event starts another."""
        with self._changed:
            self._has_consumer = self._is_delivering = False
            self._changed.notify_all()

    def _accept(self, answer: object) -> None:
        """Raise TypeError, once, for an *answer*: publishing has gone on without it."""
        close_coroutines(answer)
        if answer is not None and not self._has_answered:
            self._has_answered = True
            raise TypeError(
                f"answered with {type(answer).__name__}, which is ignored: a subscriber with a queue observes and "
                "returns None; one that decides is subscribed without queue="
            )
        if self._subscription.trouble is not None:
            self._subscription.trouble.failures = 0

    def _note(self, event: Event, error: Exception) -> None:
        signal = self.bus.signal(type(event))
        self._may_be_disabled = True
        caused = self._failures.note(self._function, self._subscription, signal, event, error)
        self._may_be_disabled = False
        if caused is not None:
            self.bus.publish(caused)

    def drain(self, seconds: float = DRAIN_SECONDS) -> int:
        """Wait until all that is queued is delivered, at most *seconds*; returns how many events are not.

        It cannot wait on the thread that delivers.
        """
        with self._changed:
            dropped = self.dropped
            if not self._is_here():
                self._revive()
                self._changed.wait_for(lambda: not (self._events or self._is_delivering) or self._lost, seconds)
            return len(self._events) + (self.dropped - dropped if self._lost else 0)

    def _is_here(self) -> bool:
        """Whether this thread delivers."""
        return threading.get_ident() == self._thread and (self._is_delivering or self._loop is not None)

    def _revive(self) -> None:
        """Start the consumer again, if its task was cancelled; note that the loop has ended."""
        if self._events and not self._has_consumer:
            self._start()
        elif self._loop is not None:
            try:
                self._loop.soon(lambda: None)
            except RuntimeError as error:
                self._lose(str(error) or "its loop has ended")

    def close(self) -> None:
        """Deliver what is queued, and nothing after that; what is not delivered in time is dropped, and logged."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            lost = self.drain()
            self._drop_queued()
            is_own = self._is_here() and self._loop is None  # it closes itself
        if lost and not (is_own or self._may_be_disabled):
            reason = self._lost or f"they were not delivered within {DRAIN_SECONDS:g} s"
            if self._is_here():
                reason = "close() cannot wait on the loop that delivers; `await subscription.aclose()` does"
            log.warning("events dropped for subscriber %s: %d: %s", self.__qualname__, lost, reason)

    async def aclose(self) -> None:
        """As ``close``, in async code: the loop runs meanwhile."""
        loop = running_loop("call close() instead of aclose()")
        closed = loop.event()

        def close() -> None:
            try:
                self.close()
            finally:
                with suppress(RuntimeError):  # the loop has ended
                    loop.soon(closed.set)

        threading.Thread(target=close, name="recovery-queue-close", daemon=True).start()
        await closed.wait()


_lock = fork_safe(threading.Lock())
_queues: WeakSet[Queue] = WeakSet()


def drain(bus: QueueBus | None = None, seconds: float = DRAIN_SECONDS) -> None:
    """Wait until the queues of *bus* (of all, for None) are empty, at most *seconds*; log those that are not."""
    end = time.monotonic() + seconds
    with _lock:
        queues = [one for one in _queues if bus is None or one.bus is bus]
    for queue in queues:
        left = queue.drain(max(0.0, end - time.monotonic()))
        if left:
            log.warning("events not yet delivered to subscriber %s: %d", queue.__qualname__, left)


atexit.register(drain)
