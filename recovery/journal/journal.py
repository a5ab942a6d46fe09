"""The journal as users see it: what became of the events, receipts, and the calls that earlier processes left."""

from __future__ import annotations

from recovery.journal.accounting import Backlog, Counts
from recovery.journal.core import JournalCore
from recovery.journal.history import Run
from recovery.journal.pending import Pending
from recovery.journal.receipts import Receipt
from recovery.journal.store import Store


class Journal:
    """The journal of a service with a store: ``service.journal``.

    An event is *accepted* when ``publish()`` returns (microseconds, no I/O), *committed* when the store has it (it
    survives ``kill -9``), and *synced* when the disk has it (it survives a loss of power, if the disk is honest). A
    thread writes the accepted events every 20 ms, at 512 events or 1 MiB, or at once when a receipt is waited for.

    While the store fails, operations go on in memory: ``JournalDegraded`` is published once for each reason. 10 000
    events and 16 MiB wait, and 100 000 cancellations; more are dropped, and counted. When the failure is over, the
    waiting events are written in order, and ``JournalRestored`` is published.
    """

    def __init__(self, core: JournalCore) -> None:
        self._core = core

    def __repr__(self) -> str:
        counts = self.counts
        if self.reason is not None:
            return f"<Journal: nothing is written: {self.reason}; {counts.waiting} waiting>"
        closed = "closed, " if self._core.queue.is_closed else ""
        dropped = f", {counts.dropped} dropped" if counts.dropped else ""
        return f"<Journal: {closed}{counts.stored} events stored, {counts.waiting} waiting{dropped}>"

    @property
    def run(self) -> Run:
        """This process as the journal knows it, with what its clocks mean."""
        return self._core.run

    @property
    def store(self) -> Store:
        """Where it writes."""
        return self._core.store

    @property
    def reason(self) -> str | None:
        """Why nothing can be written at the moment, or ``None``."""
        return self._core.writer.reason

    @property
    def is_closed(self) -> bool:
        """Whether it accepts no more events: the service has been stopped or closed."""
        return self._core.queue.is_closed

    @property
    def counts(self) -> Counts:
        """How many events were issued, stored, coalesced and dropped, and how many wait."""
        return self._core.queue.counts

    @property
    def backlog(self) -> Backlog:
        """The accepted events that are not written yet: how many, how many bytes, since when."""
        return self._core.queue.backlog

    def receipt(self) -> Receipt:
        """A receipt for all events accepted until now: ``await receipt.committed()``, or ``receipt.wait()``.

        It covers the events that are not committed yet, and those that were refused in this thread or task since its
        last receipt. It does not cover an event that was accepted and dropped before: a checkpoint that made room for
        other events, or an event that cannot be encoded, which is logged. Ask for the receipt right after the event to
        learn of that; ``counts.dropped`` counts them all.
        """
        return self._core.tracker.receipt()

    def pending(self, timeout: float | None = None) -> Pending:
        """The calls that earlier processes left. Blocks until they are known.

        Args:
            timeout: Seconds to wait; ``None`` waits until the journal can be read. After that no call is pending.
        """
        return self._core.pending(timeout)

    def skip_pending(self) -> None:
        """Stop waiting for the calls that earlier processes left, if the journal cannot be read now.

        ``pending()`` and ``resume()`` then find nothing to resume, and the service goes on in memory. What was left
        stays in the journal for the next process.
        """
        self._core.look(now=True)

    def seal(self) -> None:
        """Accept no more events. Calls that are cancelled from now on stay pending, and the next process resumes them.

        Accepted events are written; later ones are dropped and counted.
        """
        self._core.queue.close()

    def close(self) -> None:
        """Accept no more events, write the accepted ones, close the store. Idempotent, from any thread.

        Blocks for up to 4 s. Safe in a signal handler. A handler that interrupts its own thread inside the journal
        does not wait: the accepted events are written after it returns.
        """
        self._core.close()
