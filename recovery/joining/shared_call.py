"""A call that equal calls may join: its outcome, its callers, and where another of them goes on with it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import msgspec

from events.errors import CallRejectedError

if TYPE_CHECKING:
    from events.attempt import Attempt
    from events.verdicts import Verdict
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.operations import Definition
    from recovery.serialization.arguments import ArgumentCodec
    from recovery.waiting.wait import Wait
    from recovery.waiting.waiters import Waiter

Identity: TypeAlias = tuple[str, str, str | bytes]
"""What equal calls have in common: operation, version, and the idempotency key or the arguments as canonical JSON."""

NOT_JOINED = "a call runs by itself, no equal call can join it"

NO_PLACE = "JOURNAL"
"""What commands call the journal of a store without a file."""

JOIN_NOTICE = 10.0
"""Seconds that a caller waits for a call that it joined before a warning says so."""


class Outcome(msgspec.Struct, eq=False, gc=True):
    """How a call ended, for every caller: its *result*, or its *error* with the body's traceback, if *is_known*."""

    result: Any = None
    error: BaseException | None = None
    traceback: TracebackType | None = None
    is_known: bool = True


class Rest(msgspec.Struct, eq=False):
    """Where a call stands that its caller did not finish.

    Args:
        attempt: The attempt to make next, or the one that failed.
        error: What that attempt raised, where the failure is not published yet, or is answered with *verdict*.
        wait: The wait that was under way.
        verdict: What the failure was answered with, where the next attempt is not made yet.
        refusal: Why the call must not be run again.
        delay: Seconds to wait first, of a wait that another process began.
        is_paused: Whether that wait stands still.
    """

    attempt: Attempt
    error: Exception | None = None
    wait: Wait | None = None
    verdict: Verdict | None = None
    refusal: str | None = None
    delay: float = 0.0
    is_paused: bool = False


class SharedCall(msgspec.Struct, eq=False):
    """One call, run once for all its callers. The lock of its ``CallRegister`` guards it.

    Args:
        identity: What equal calls have in common; None for a call that none can join.
        name: The operation, for messages.
        args: The positional arguments that the body gets; likewise *kwargs*. None until a caller brings them, where a
            dead process did not store them.
        record: What the journal knows about a call that a dead process left.
        place: What commands call that journal.
        state: "pending" until a caller or the resumption runs it.
        attempt: The latest attempt that is known to have begun in this process.
        is_free: Whether its caller was cut off, and the first of *joins* is to go on with it.
        start: Where the next caller begins; None for the beginning.
        outcome: How it ended.
        joins: The callers that wait for it, the longest waiting first.
        waits_for: The calls that its own body has joined and waits for.
        claimed_elsewhere: When another process was found to run an equal call, until this one begins: monotonic
            seconds.
        is_resumed_here: Whether the resumption runs it, so that its result is owed to the program.
        on_end: Told how it ended.
    """

    identity: Identity | None
    name: str
    args: tuple[Any, ...] | None = ()
    kwargs: dict[str, Any] = {}
    record: CallRecord | None = None
    place: str = NO_PLACE
    state: Literal["pending", "running", "over"] = "pending"
    attempt: Attempt | None = None
    is_free: bool = False
    start: Rest | None = None
    outcome: Outcome | None = None
    joins: list[Join] = []
    waits_for: list[SharedCall] = []
    claimed_elsewhere: float | None = None
    is_resumed_here: bool = False
    on_end: Callable[[Outcome], object] | None = None

    def __str__(self) -> str:
        call = self.record.call if self.attempt is None and self.record is not None else None
        return f"{self.name} (call {call or (self.attempt and self.attempt.call.id) or 'new'})"


carried: ContextVar[tuple[SharedCall, ...]] = ContextVar("recovery_carried", default=())
"""The calls in whose bodies the code runs, the outermost first."""


class Joins(Protocol):
    """What a ``Join`` needs of the register."""

    def step(self, join: Join) -> bool:
        """Whether *join* has something to take."""
        ...

    def take(self, join: Join) -> Outcome | SharedCall:
        """What *join* waited for: the outcome, or the call itself."""
        ...

    def leave(self, join: Join) -> None:
        """*join* waits no longer."""


class Join(msgspec.Struct, eq=False):
    """One caller that waits for a shared call. The steps neither sleep nor await; call ``leave`` at the end.

    Args:
        register: Keeps the call.
        shared: The call that it joined.
        chain: The calls in whose bodies the caller runs.
    """

    register: Joins
    shared: SharedCall
    chain: tuple[SharedCall, ...] = ()
    waiter: Waiter | None = None
    left: float = JOIN_NOTICE
    outcome: Outcome | None = None
    """What this caller gets although the call has not ended: the service has been closed."""
    is_outdated: bool = False
    """Whether the call is cancelled for this caller, which begins another one once it has ended."""

    def next_sleep(self, waiter: Waiter) -> float | None:
        """Seconds to sleep now, ``None`` once there is something to ``take``. *waiter* must be a new one."""
        self.waiter = waiter
        return None if self.register.step(self) else self.left

    def wake(self) -> None:
        """End its sleep."""
        if self.waiter is not None:
            self.waiter.wake()

    def slept(self) -> bool:
        """Note that the sleep has passed without an end. True the first time: then a warning is due."""
        is_first, self.left = self.left < math.inf, math.inf
        return is_first

    def take(self) -> Outcome | SharedCall:
        """The outcome of the call, or the call itself, with which this caller goes on."""
        return self.register.take(self)

    def leave(self) -> None:
        """End the wait, however it ended."""
        self.register.leave(self)


def refuse_circle(shared: SharedCall, chain: tuple[SharedCall, ...]) -> None:
    """Raise CallRejectedError if *shared* waits, along the calls that wait for each other, for one of *chain*."""
    seen: set[int] = set()

    def walk(one: SharedCall) -> Iterator[list[SharedCall]]:
        if one in chain:
            yield [one]
        elif id(one) not in seen:
            seen.add(id(one))
            for other in one.waits_for:
                for path in walk(other):
                    yield [one, *path]

    if (circle := next(walk(shared), None)) is not None:
        names = " -> ".join(map(str, (circle[-1], *circle)))
        raise CallRejectedError(shared.name, f"to join it would close a circle of calls that wait: {names}")


def place_of(journal: JournalCore | None) -> str:
    """What commands call *journal*: the path of its store, which a shell takes as one word."""
    path = None if journal is None else getattr(journal.store, "path", None)
    if not isinstance(path, os.PathLike):
        return NO_PLACE
    import shlex  # here, for a message

    return shlex.quote(str(path))


def why_rejected(shared: SharedCall) -> str:
    """Why a call that equals *shared*, which is quarantined, is rejected, and what to do."""
    record = shared.record
    assert record is not None
    free = f"`recovery retry {shared.place} {record.call}` frees it"
    return f"call {record.call} is quarantined: {record.reason}; {free}"


def identity_of(
    definition: Definition, codec: ArgumentCodec, idempotency_key: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Identity | None:
    """What equal calls have in common; ``None``, said once, for a call that runs by itself.

    Args:
        definition: The operation.
        codec: That of the function.
        idempotency_key: The idempotency key of the call; "" for none.
        args: The positional arguments; likewise *kwargs*.
    """
    key: str | bytes = idempotency_key
    if not definition.config.joins:
        return None
    if not key:
        try:
            key = codec.identity(args, kwargs)
        except ValueError as error:
            definition.warn_once(NOT_JOINED, str(error), per_reason=True)
            return None
    return definition.operation.name, definition.config.version, key
