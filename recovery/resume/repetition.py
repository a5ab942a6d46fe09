"""Calls that are run again: which ones, their handles, and why others are refused."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from events.evidence import Category
from events.operation_events import CallRejected, GaveUp, OperationCancelled
from events.own_log import own_log
from recovery import validation
from recovery.resume.handles import ResumedCall
from recovery.waiting.waiters import Latch

if TYPE_CHECKING:
    from recovery.journal.history import CallRecord

EndedState: TypeAlias = Literal["gave up", "cancelled", "rejected"]

ENDS: dict[str, str] = {
    "gave up": GaveUp.__name__,
    "cancelled": OperationCancelled.__name__,
    "rejected": CallRejected.__name__,
}
"""How a call may have ended that is run again, with the kind of event that ended it."""

log = own_log("recovery")


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls to run again; see ``Recovery.again``. With *is_new*, the call only if none has run it again yet.

    Raises:
        TypeError: A value of the wrong type, neither a call nor a filter, or both.
        ValueError: A value out of range.
    """

    call: str | None = None
    states: tuple[str, ...] = ()
    categories: tuple[Category, ...] = ()
    operation: str | None = None
    since: float | None = None
    limit: int = 1000
    is_new: bool = False

    def __post_init__(self) -> None:
        has_filter = bool(self.states or self.categories) or self.operation is not None or self.since is not None
        if (self.call is None) is not has_filter:
            raise TypeError("again() takes the id of a call, or a filter: again(state='gave up', since=3600.0)")
        for name, text in (("call", self.call), ("operation", self.operation)):
            if not isinstance(text, str | None):
                raise TypeError(f"{name} must be a str, not {text!r}")
        for state in self.states:
            validation.choice("state", state, tuple(ENDS))
        if self.since is not None:
            validation.number("since", self.since, least=0.0)
        validation.whole("limit", self.limit, least=1)

    def admits(self, record: CallRecord) -> bool:
        """Whether the filter lets the call of *record* pass, which ended as it asks and when it asks."""
        category = None if record.failure is None else record.failure.category
        return self.operation in (None, record.operation) and (not self.categories or category in self.categories)


def several(value: Any) -> tuple[Any, ...]:
    """*value*, which may be one or a list, as a tuple; None is none."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


class RepeatedCall(ResumedCall):
    """A call that runs again. Wait for it with ``wait()`` or ``await``; then *result* or *error* is set.

    Args:
        record: What the journal knows about the former call.
    """

    def __init__(self, record: CallRecord) -> None:
        super().__init__(record)
        self.call = ""
        """The id of the call that runs again: a new one, or an equal one that it has joined; "" until that is known."""
        self.begun = Latch()
        """Open once the call has begun, and that is published, or once it has ended without."""

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """As of any resumed call."""
        super().end(result, error)
        self.begun.open()


class Repetition:
    """What ``Recovery.again`` runs: complete once ``loaded`` is open. ``wait()`` and ``await`` wait for that, too."""

    def __init__(self) -> None:
        self.loaded = Latch()
        """Open once the journal has been read: ``loaded.is_open``, ``loaded.wait(timeout)``."""
        self.calls: list[RepeatedCall] = []
        """The calls that run again."""
        self.refused: dict[str, str] = {}
        """Why a call is not run again, by its id; the id "" stands for a journal that cannot be read."""
        self.needless: set[str] = set()
        """The ids of refused calls that have succeeded, or run already."""

    def __repr__(self) -> str:
        over = sum(call.is_over for call in self.calls)
        found = f"{len(self.calls)} calls run again, {over} are over; {len(self.refused)} refused"
        return f"<Repetition: {found if self.loaded.is_open else 'the journal is being read'}>"

    def refuse(self, call: str, why: str) -> None:
        """Note, and log, that *call* is not run again."""
        self.refused[call] = why
        log.warning("call %s is not run again: %s", call, why) if call else log.warning("no call is run again: %s", why)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until every call has ended, for at most *timeout* seconds; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        return self.loaded.wait(timeout) and all(
            call.wait(None if end is None else max(0.0, end - time.monotonic())) for call in self.calls
        )

    def __await__(self) -> Generator[Any, None, Repetition]:
        """Suspend until every call has ended."""
        yield from self.loaded.opened().__await__()
        for call in self.calls:
            yield from call.__await__()
        return self
