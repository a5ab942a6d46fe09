"""Where a journal writes: the port ``Store``, and the data that passes through it.

The adapters are ``adapters.memory`` and ``adapters.sqlite.store``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ForwardRef, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

import msgspec

from recovery.waiting.waiters import Latch

if TYPE_CHECKING:
    from recovery.journal.history import CallRecord, Run
else:  # for typing.get_type_hints; a service without a journal is imported without them
    CallRecord, Run = (ForwardRef(name, module="recovery.journal.history") for name in ("CallRecord", "Run"))

T = TypeVar("T")

ANSWER_TIMEOUT = 5.0
"""Seconds that the wait for an answer of the store takes at most, by default."""


Wants: TypeAlias = Callable[[CallRecord], bool]
"""Whether this process can resume a call that a dead one left, or none can."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One event as it is stored.

    Args:
        run: The run that wrote it.
        call: The call it is about; "" for none.
        kind: The name of the event's class.
        body: The event as JSON.
        number: Its number among the events of that run, from 1. Run and number identify the row.
        is_readable: False if the row is not what was written: then *body* must not be believed.
        result_key: What the result that the event records is found by; "" if it records none.
    """

    run: str
    call: str
    kind: str
    body: bytes
    number: int
    is_readable: bool = True
    result_key: str = ""


class Claim(Protocol):
    """The right to run the calls of one identity. It ends with ``release`` or with the process."""

    def release(self) -> None:
        """Let other processes claim them. Idempotent, from any thread; harmless in a forked child."""


class Taken(msgspec.Struct, frozen=True):
    """A claim is held already, by the process *pid*; ``None`` if that is unknown."""

    pid: int | None


class Store(Protocol):
    """Where a journal writes. One task of one asyncio loop awaits the methods, one call at a time.

    When a method raises, the journal opens the store again later. It closes the store once, at the end. Derive from
    this class to inherit what a store without files need not do. Commands in messages name its ``path``, if any.
    """

    async def open(self, run: Run) -> Sequence[str]:
        """Make ready for *run* to write. Returns a description of each file that had to be renamed for that.

        Called again after a failure: then begin again, but remain the writer. No other process may take over what was
        written, because its calls are still under way.

        Raises:
            JournalError, OSError: The store cannot be written; the message says what failed, and where.
        """
        ...

    async def unfinished(self) -> tuple[Sequence[Run], Sequence[Row]]:
        """The rows of all calls without a terminal event, and the latest about circuits, in the order written.

        The first item is the runs that wrote them.
        """
        ...

    async def history(self, call: str) -> Sequence[Row]:
        """All rows of one call, in the order written."""
        ...

    async def recorded(self, key: str | None = None, *, limit: int = 1) -> Sequence[Row]:
        """The latest rows with that *result_key*, or with any if it is ``None``: newest first, at most *limit*."""
        ...

    async def ended(self, kinds: Collection[str], *, since: float | None = None) -> Sequence[str]:
        """The calls that an event of one of *kinds* has ended, the latest first.

        Args:
            kinds: The names of classes of events.
            since: Only those that ended at most that many seconds ago; ``None`` for all.
        """
        return ()

    async def append(self, rows: Sequence[Row]) -> None:
        """Write *rows* in this order, all or none. They survive the process when this returns.

        Rows that are stored already (same run and number) stay as they are: a batch may come twice.
        """

    async def close(self) -> None:
        """Release everything; also after a failed ``open``."""

    async def sync(self) -> None:
        """Return when all appended rows survive a loss of power, as far as the disk is honest."""

    async def check(self) -> None:
        """Raise JournalError if this store no longer writes where it was opened. Called twice a second when idle."""
        return  # a body that says nothing would make it abstract

    async def adopt(self, wants: Wants | None = None) -> bool:
        """Take over what processes wrote to other files before they died; whether there was anything.

        A file with a pending call that *wants* refuses is left as it is: another process may resume all of its calls.

        Commits wait for it. What takes longer may be left for the next call: until this returns False, it is called
        again after the next batch.
        """
        return False

    def claim(self, identity: bytes) -> Claim | Taken | None:
        """Claim the calls of *identity* in this process; ``None`` where no other process can have any.

        Never waits. Called from any thread, before ``open`` and after ``close`` too. A claim that this process holds
        itself is ``Taken``. A claim outlives ``close``, as its call may.

        Raises:
            JournalError, OSError: Processes cannot exclude each other here; the message says why.
        """
        return None

    async def calls_of(self, operation: str, since: float | None) -> tuple[Sequence[Run], Sequence[Row]]:
        """The rows of the calls of *operation* in every file of the journal, and the runs that wrote them.

        Args:
            operation: Its name.
            since: Monotonic seconds. Calls that are over are found by their rows written since then, in this boot.
                ``None``: none of them, and only the calls in the files of other processes.

        Returns:
            Rows in the order to replay, each once, without checkpoints. The latest rows only, if there are very many. A
            file that cannot be read is left out.
        """
        return (), ()

    async def take_over(self, calls: Collection[str]) -> None:
        """Copy all rows of *calls* from the files of other processes, living ones too: ``history`` is complete then.

        For the holder of the claim on them only: another process may have them in its file without running them.
        """
        return

    async def prune(self) -> bool:
        """Delete a few of the rows that need not be kept; whether there may be more."""
        return False

    async def questions(self) -> Sequence[Row]:
        """The rows about questions and answers (``history.QUESTIONS``) in every file of the journal.

        Called twice a second. None, if none were written since the last call.
        """
        return ()

    async def remembered(self) -> Sequence[Remembered]:
        """The secrets that were remembered, for every process of the journal."""
        return ()

    async def remember(self, changed: Sequence[Remembered]) -> None:
        """Keep, or drop, secrets: where only this user can read them, and never in the journal itself.

        Called before the answer is appended. The default drops, and keeps none.

        Raises:
            JournalError, OSError: They cannot be kept or dropped; the message says why, without a value.
        """
        if any(one.value for one in changed):
            raise OSError("this store keeps no secrets; they are asked for again after a restart")

    async def commands(self, sink: CommandSink) -> bool:
        """Pass the commands that arrived since the last call to *sink*, as far as they concern it; send its answers.

        Returns whether there are more, passed after the next commit. An error is logged; it is no failure of the store.
        """
        del sink  # most stores have no commands
        return False

    def forked(self) -> Self:
        """In a forked child: a store of its own, which touches nothing that the parent has open."""
        return self


CommandName: TypeAlias = Literal[
    "retry", "pause", "unpause", "give up", "cancel", "reset", "edit", "again", "answer", "probe", "give up incident",
    "prune",
]  # fmt: skip


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a process is to do with one of its calls, or by itself.

    Args:
        name: The command.
        call: The id of the call; of "again" and of what concerns no call, that of a process.
        reason: What goes into ``CallSteered``.
        changes: Of "edit": the settings; of "again": the "call"; of "answer": the "question"; of an incident: its
            "operation" and "key"; of "prune": what the store keeps.
    """

    name: CommandName
    call: str
    reason: str = ""
    changes: dict[str, Any] = {}


class Answer(msgspec.Struct, frozen=True):
    """The answer to a command: whether it *is_done*, what happens now or why not, and how much "prune" has deleted."""

    is_done: bool
    said: str
    counts: dict[str, int] = {}


class Remembered(msgspec.Struct, frozen=True):
    """The answer to a question that asks for a secret, which a store keeps beside the journal.

    Args:
        name: The name of the question.
        answered: The Unix time of the answer.
        value: The secret; "" drops what is kept of the question, up to an answer of that time.
    """

    name: str
    answered: float
    value: str

    def __repr__(self) -> str:
        return f"Remembered({self.name!r}, {self.answered!r}, ***)"


def kept_after(kept: Iterable[Remembered], changed: Iterable[Remembered]) -> dict[str, Remembered]:
    """What a store that has *kept* some secrets keeps after ``remember(changed)``, by the names of the questions."""
    after = {one.name: one for one in kept}
    for one in changed:
        before = after.get(one.name)
        if before is None or before.answered <= one.answered:
            after[one.name] = one
    return {name: one for name, one in after.items() if one.value}


Reply: TypeAlias = Callable[[Answer], object]


class CommandSink(Protocol):
    """What carries out the commands to this process. Called on the journal's thread."""

    def concerns(self, call: str) -> bool:
        """Whether a command about the call of that id is for this process."""
        ...

    def carry_out(self, command: Command, secret: str = "", reply: Reply = id) -> Answer | None:
        """Carry *command* out, or say why not; None if *reply* gets the answer later, on another thread.

        *secret* answers the question of an "answer". An ``Order`` is done once that is written to the journal.
        """
        ...

    def after_fork(self) -> None:
        """This process is a forked child: commands about its parent's calls are not for it."""


class Query(Generic[T]):
    """A question to the store, which *run* asks; *answer* is ``None`` if there is none."""

    def __init__(self, run: Callable[[Store], Coroutine[Any, Any, T | None]]) -> None:
        self.run = run
        self.answer: T | None = None
        self._latch = Latch()

    def end(self) -> None:
        """The answer is set, or there will be none."""
        self._latch.open()

    def wait(self, timeout: float = ANSWER_TIMEOUT) -> T | None:
        """Block until there is an answer, up to *timeout* seconds; then the answer is ``None``."""
        self._latch.wait(timeout)
        return self.answer

    async def await_answer(self, timeout: float = ANSWER_TIMEOUT) -> T | None:
        """As ``wait``, suspending the task."""
        import anyio  # here, for an answer of the journal: it takes milliseconds

        with anyio.move_on_after(timeout):
            await self._latch.opened()
        return self.answer
