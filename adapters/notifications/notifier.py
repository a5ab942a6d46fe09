"""Tell people what happens to the calls of a service, at most once a minute: the ``Notifier``."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread

from adapters.notifications.outbox import Outbox, Tally
from adapters.notifications.summary import EVENTS, KINDS, Digest, Kind
from adapters.notifications.target import Target
from events.event import CallEvent, Event
from events.own_log import own_log
from events.queued import running_loop
from events.subscription import Subscription
from recovery import validation
from recovery.redact import brief
from recovery.service import Recovery

QUEUE = 10_000
"""Events that wait to be summarised; further ones are dropped and counted."""

START_SECONDS = 10.0
"""Seconds that the thread of a notifier may take to begin."""

JOIN_SECONDS = 2.0
"""Seconds that it may take to end, besides those for sending what is left."""

log = own_log("recovery.notifications")


class Notifier:
    """Tells people of questions, failed calls, incidents and alerts of *service*, by webhooks and commands.

        with Notifier(service, to=[Webhook("env:SLACK_WEBHOOK")], name="nightly"):
            ...

    What happens within a few seconds is one notification; after that each target gets at most one each *every*
    seconds, which sums up what has happened since. Operations are never held up: a thread of the notifier summarises
    and sends. A target that fails notifies of nothing: the log has a line at WARNING, and the next notification counts
    what was lost. ``with`` begins and closes it; close it before the program ends, or the last one is not sent.

    Args:
        service: The service whose events are notified of.
        to: The targets. Each has a queue of its own: one that hangs holds up no other.
        every: Seconds between two notifications of a target.
        gather: Seconds that the first notification waits for more of the same.
        kinds: What is notified of: "question", "gave up", "incident", "alert". Alerts need ``service.monitor()``.
        name: What the texts begin with: the program or the plan.
        target: What ``recovery why`` and ``recovery answer`` take to find the journal; the texts then name the command.
        name_of: Names the call of an event; by default its idempotency key or telling argument does. It is called in
            the notifier's thread.
        flush: The most seconds that ``close`` waits until everything is sent.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A value out of range, an unknown kind, no kind, or no target.
    """

    def __init__(
        self,
        service: Recovery,
        to: Target | Sequence[Target],
        *,
        every: float = 60.0,
        gather: float = 2.0,
        kinds: Sequence[Kind] = KINDS,
        name: str = "",
        target: str | os.PathLike[str] = "",
        name_of: Callable[[CallEvent], str | None] = lambda _event: None,
        flush: float = 5.0,
    ) -> None:
        targets = _targets(to)
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, not {name!r}")
        if not isinstance(target, str | os.PathLike):
            raise TypeError(f"target must be the path of a plan or a journal, not {target!r}")
        if not callable(name_of):
            raise TypeError(f"name_of must be a function, not {name_of!r}")
        validation.number("every", every)
        validation.number("gather", gather)
        self._flush = validation.number("flush", flush)
        self._events = _events(kinds)
        self._name_of, self._has_failed_to_name = name_of, False
        self._bus = service.bus
        self._outboxes = [
            Outbox(one, Digest(os.fspath(target), self._named), name=name, every=every, gather=gather)
            for one in targets
        ]
        self._thread: threading.Thread | None = None
        self._subscription: Subscription | None = None
        self._close: Callable[[], object] = lambda: None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        targets, tally = ", ".join(str(one.target) for one in self._outboxes), self.tally
        return f"<Notifier: to {targets}; {tally.sent} sent, {tally.failed} failed>"

    @property
    def tally(self) -> Tally:
        """What became of the events until now, of all targets together."""
        tallies = [one.tally for one in self._outboxes]
        sent, failed, unsent = (sum(getattr(one, name) for one in tallies) for name in ("sent", "failed", "unsent"))
        dropped = 0 if self._subscription is None else self._subscription.dropped
        return Tally(sent=sent, failed=failed, unsent=unsent, dropped=dropped)

    def __enter__(self) -> Self:
        """Check the targets and begin. Raises what ``Target.prepare`` raises."""
        if self._thread is not None:
            raise RuntimeError("this notifier was begun already; make another one")
        for outbox in self._outboxes:
            outbox.target.prepare()
        has_begun = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(has_begun,), name="recovery-notifier", daemon=True)
        self._thread.start()
        if not has_begun.wait(START_SECONDS) or self._error is not None:
            raise RuntimeError(f"the thread of the notifier did not begin: {self._error or 'it is slow'}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    def close(self) -> None:
        """Send what is left, for at most *flush* seconds, and end. What is not sent then is logged. Idempotent."""
        if self._thread is None or not self._thread.is_alive():
            return
        with suppress(RuntimeError):  # its loop has ended
            self._close()
        self._thread.join(self._flush + JOIN_SECONDS)

    def _run(self, has_begun: threading.Event) -> None:
        try:
            anyio.run(self._deliver, has_begun)
        except Exception as error:
            self._error = error
            log.warning("the notifier has ended, and nothing is notified of any more: %s", brief(repr(error)))
        finally:
            has_begun.set()

    async def _deliver(self, has_begun: threading.Event) -> None:
        closing, over = anyio.Event(), anyio.Event()
        self._close = partial(running_loop("a notifier has a loop").soon, closing.set)
        for outbox in self._outboxes:
            outbox.begin()
        self._subscription = self._bus.subscribe(self._events, self._take, queue=QUEUE)
        async with anyio.create_task_group() as group:
            for outbox in self._outboxes:
                group.start_soon(outbox.deliver, over)
            has_begun.set()
            await closing.wait()
            group.cancel_scope.deadline = anyio.current_time() + self._flush
            await self._subscription.aclose()
            over.set()
            for outbox in self._outboxes:
                outbox.wake()
        for outbox in self._outboxes:
            outbox.end()

    def _named(self, event: CallEvent) -> str | None:
        """What ``name_of`` says; None if it fails, which is logged once: an unnamed failure is notified of, too."""
        try:
            name = self._name_of(event)
            return None if name is None else str(name)
        except Exception as error:
            if not self._has_failed_to_name:
                log.warning("name_of failed, so that notifications do not name calls: %s", brief(repr(error)))
            self._has_failed_to_name = True
            return None

    async def _take(self, event: Event) -> None:
        for outbox in self._outboxes:
            outbox.add(event)


def _targets(to: Target | Sequence[Target]) -> tuple[Target, ...]:
    targets = tuple(to) if isinstance(to, Sequence) else (to,)
    if not targets:
        raise ValueError("to must name a target at least: Webhook(url), Command([...])")
    for one in targets:
        if not hasattr(one, "send") or isinstance(one, type):  # it is not shown: a URL is a secret
            what = f"the class {one.__name__}" if isinstance(one, type) else type(one).__name__
            raise TypeError(f"to must be targets, as Webhook(url) or Command([...]), not {what}")
    return targets


def _events(kinds: Iterable[Kind]) -> list[type[Event]]:
    chosen = validation.items("kinds", kinds)
    if not chosen:
        raise ValueError(f"kinds must name a kind at least: {', '.join(map(repr, KINDS))}")
    for kind in chosen:
        validation.choice("kinds", kind, KINDS)
    return [event for kind in KINDS if kind in chosen for event in EVENTS[kind]]
