"""The calls of a service, as ``service.calls``: list, find and steer them, and answer their questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ForwardRef, Unpack

from events.bus import Bus
from events.conditions import Condition
from events.operation_events import FailureClassified
from events.question_events import QuestionKind
from recovery.answers import OpenQuestion
from recovery.execution.joinable import JoinableCalls
from recovery.execution.steering import Cancelled, RunningCall, Steering
from recovery.journal.store import ANSWER_TIMEOUT, Query
from recovery.questions import ANY, Questions
from recovery.serialization.secret import Secret
from recovery.settings import Settings
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.description import WaitingCall

if TYPE_CHECKING:
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
else:  # for inspect.signature(..., eval_str=True); a service without a journal is imported without them
    JournalCore = ForwardRef("JournalCore", module="recovery.journal.core")
    CallRecord = ForwardRef("CallRecord", module="recovery.journal.history")


class Calls:
    """The calls of one service. Safe to use from any thread.

        for call in service.calls.waiting():
            service.calls.retry_now(call.call, "the host is back")

    A call is named by its id: ``WaitingCall.call``, or the field ``call`` of its events. ``retry_now``, ``pause``,
    ``unpause`` and ``give_up`` act on a wait, never on a function that runs. ``cancel``, ``reset`` and ``edit`` act on
    both. They take effect within milliseconds, publish ``CallSteered`` with the *reason*, and return whether they
    changed anything: not if there is no such call.

    A call waits once every subscriber has received its ``RetryScheduled`` or ``Parked``.
    """

    __slots__ = ("_bus", "_joinable", "_journal", "_questions", "_steering", "_waiting")

    def __init__(
        self,
        waiting: WaitingCalls,
        steering: Steering,
        joinable: JoinableCalls,
        bus: Bus,
        journal: Callable[[], JournalCore | None],
        questions: Questions,
    ) -> None:
        self._steering = steering
        self._joinable = joinable
        self._waiting = waiting
        self._bus = bus
        self._journal = journal
        self._questions = questions

    def __repr__(self) -> str:
        return f"<Calls: {len(self._waiting)} waiting>"

    def waiting(self) -> list[WaitingCall]:
        """Every call that waits now."""
        return self._waiting.describe_all()

    def each_waiting(self, former: Mapping[str, WaitingCall] = {}) -> Iterator[WaitingCall]:
        """Every call that waits now, one after another, for a program that looks often: between two it can pause.

        Args:
            former: What an earlier look has found, by the ids of the calls. A call that waits as it did then is given
                as it is there: its ``left``, ``within`` and ``retries`` are of that look.
        """
        return self._waiting.describe_each(former)

    def running(self) -> list[RunningCall]:
        """The calls that run now, as far as they are known: since when, and how far they have come.

        Known are the calls of operations with ``resumable=True``, an ``idempotency_key``, a ``stall_timeout`` or
        ``progress_resets``, and of journalled operations with a ``key`` or a time limit, blocks of code included. Any
        other call is known while it waits, and in a later attempt as a rule: to list its first attempt, and a retry
        without a delay, would cost time in each call that succeeds.
        """
        return self._steering.running()

    def joining(self, idempotency_key: str | None = None) -> int:
        """How many callers wait for a call that another caller, or the resumption, runs.

        Args:
            idempotency_key: Count only those that wait for calls with this key.
        """
        return self._joinable.register.joining(idempotency_key)

    def find(self, call: str, timeout: float = ANSWER_TIMEOUT) -> CallRecord | None:
        """Where a call stands, of this process or an earlier one; ``None`` if it is unknown.

        A live or recent call is found in memory. For any other this blocks, at most *timeout* seconds, while the
        journal's thread reads the store; where that fails the answer is ``None``. Without a store, and for operations
        that are not journalled, only calls that wait now are known. In async code use ``afind``.
        """
        found = self._look_up(call)
        return (found.wait(timeout) if isinstance(found, Query) else found) or self._in_memory(call)

    async def afind(self, call: str, timeout: float = ANSWER_TIMEOUT) -> CallRecord | None:
        """Where a call stands, as ``find`` says; suspends the task instead of blocking the thread."""
        found = self._look_up(call)
        return (await found.await_answer(timeout) if isinstance(found, Query) else found) or self._in_memory(call)

    def _look_up(self, call: str) -> CallRecord | Query[CallRecord] | None:
        journal = self._journal()
        return None if journal is None else journal.lookup.call(call)

    def _in_memory(self, call: str) -> CallRecord | None:
        waiting = self._waiting.describe(call)
        if waiting is None:
            return None
        from recovery.journal.history import CallRecord  # here, for a call that is asked for

        now = self._bus.clock()
        return CallRecord(
            call=call,
            operation=waiting.operation,
            key=waiting.key,
            run=self._bus.run,
            state="waiting",
            attempt=waiting.attempt,
            retries=waiting.retries,
            due=None if waiting.is_paused or waiting.asks_person else now + waiting.left,
            delay=0.0 if waiting.asks_person else waiting.left,
            asks_person=waiting.asks_person,
            waits_for="; ".join(waiting.until),
            paused_at=now if waiting.is_paused else None,
            arguments=waiting.arguments,
            idempotency_key=waiting.idempotency_key,
            failure=waiting.failure,
            at=now,
        )

    def retry_now(self, call: str, reason: str = "") -> bool:
        """End the wait of a call: its delay, conditions and pause.

        An open circuit is asked again, and may refuse. A server that asked for a pause gets it: False, and nothing is
        changed, for a call that waits for its rate limit alone. Another one waits for the rest of it.
        """
        return self._waiting.steer(call, "retry now", reason)

    def pause(self, call: str, reason: str = "") -> bool:
        """Stop the delay of a waiting call until ``unpause``, or until its deadline (``max_elapsed``) passes."""
        return self._waiting.steer(call, "pause", reason)

    def unpause(self, call: str, reason: str = "") -> bool:
        """Let a paused call wait for the rest of its delay."""
        return self._waiting.steer(call, "unpause", reason)

    def give_up(self, call: str, reason: str = "") -> bool:
        """End a waiting call for good: its caller gets the call's last error, with a note that says so.

        Without an error it is CallRejectedError (nothing was tried) or, for a call that another process began,
        RecoveryError. Its circuit counts it as a call that gave up.
        """
        return self._waiting.steer(call, "give up", reason)

    def cancel(self, call: str, reason: str = "") -> Cancelled:
        """Cancel a call that runs, waits, or was left by a dead process. Never blocks.

        Its caller, and callers that joined it, get CallCancelledError; it counts as cancelled, not as failed. An async
        function is cancelled where it awaits, and cleans up as after any cancellation. A plain function cannot be
        stopped: it is asked by ``recovery.context.cancelled()``, and is not retried. A call that a dead process left is
        resumed no more.

        Returns:
            "cancelled", or "asked" for a plain function that runs; "" if nothing changed: the call is over, or not
            known (see ``running``), or the journal has not said yet which calls are pending.
        """
        return self._steering.cancel(call, reason) or ("cancelled" if self._joinable.pending.cancel(call) else "")

    def reset(self, call: str, reason: str = "") -> bool:
        """Give a call that runs or waits all its retries back, and its ``max_elapsed``, as if it began now.

        A call that waits goes on waiting; one that asks a person still asks. Returns whether there is such a call.
        """
        return self._steering.reset(call, reason)

    def edit(self, call: str, reason: str = "", **settings: Unpack[Settings]) -> bool:
        """Change how a call that runs or waits decides, from its next failure or attempt on, until it ends.

            service.calls.edit(call, max_retries=20, max_elapsed=None)

        A process that resumes the call after a restart decides by the settings of the operation again.

        Args:
            call: The id of the call.
            reason: Why, for ``CallSteered``.
            settings: The settings that ``but`` may change, but for ``fallback``.

        Returns:
            Whether there is such a call.

        Raises:
            TypeError: An unknown setting, one that all calls of the operation share, or a value of the wrong type.
            ValueError: A value out of range, or a contradiction.
        """
        return self._steering.edit(call, settings, reason)

    def question(
        self,
        name: str,
        kind: QuestionKind = "confirm",
        choices: Sequence[str] = (),
        text: str = "",
        link: str = "",
    ) -> Condition:
        """The condition that a person has answered the question *name*: for ``Park``, ``Strategy`` and ``before``.

        ``QuestionAsked`` is published when the first call waits for it. The answer False ends the calls that wait, or
        come to wait, for a "confirm": they give up, as by ``give_up``.

        Args:
            name: By which it is answered, in every process of the journal.
            kind: What answers it: "confirm", True or False; "choice", one of *choices*; "text", a text; "secret", a
                text that is never journalled, logged or shown, or a ``Secret`` that says where it is.
            choices: The answers to a "choice".
            text: What a person is asked to do, for lists and logs.
            link: Where to do that.

        Raises:
            TypeError: *name*, *text*, *link* or a choice is no text.
            ValueError: *name* is empty, *kind* is none of these, or *choices* do not go with it.
        """
        return self._questions.condition(name, kind, choices, text, link)

    def question_of(self, failure: FailureClassified) -> Condition | None:
        """The condition that the question of the failure's remedy is answered; ``None`` if it has none.

        Strategy(wait_for=(service.calls.question_of,)) parks a call on the question of the ``Rule`` that decided. If
        the attempt that failed had the answer already, that is refused: the question is opened again.
        """
        remedy = failure.remedy
        if remedy is None or not remedy.question:
            return None
        self.refused_by(remedy.question, failure)
        return self.question(remedy.question, remedy.kind, remedy.choices, remedy.sentence, remedy.link)

    def questions(self) -> list[OpenQuestion]:
        """The questions that calls of this process wait for now, the earliest first."""
        return self._questions.open()

    def answer(self, name: str, value: bool | str | Secret = True, *, remember: bool = False) -> None:
        """Answer the question *name*, for the calls that wait for it and for later ones.

        With a journal the answer outlasts a restart, and reaches the journal's other processes within a second: any
        process answers, by a service with the same store. The latest answer counts. An answer to a question that was
        never asked is kept as well, with a warning: it may be misspelled.

        The value of a secret stays in the memory of this process. A ``Secret`` is journalled as a reference, and each
        process looks for its value there: where it finds none, the question stays open. A text that answers a question
        that no process has asked yet stays here too, for it may be a secret.

        Args:
            name: The name of the question.
            value: What answers its kind.
            remember: Whether the store keeps the value of a secret, in a file beside the journal that only this user
                can read (0600), for the journal's other processes and after a restart. Other answers always are kept.

        Raises:
            TypeError: *value* has another type than the kind of the question asks for, or *name* is no text.
            ValueError: *value* is none of the choices, or an empty secret.
        """
        self._questions.answer(name, value, remember=remember)

    def answered(self, name: str) -> bool | str | None:
        """The answer to the question *name*, of a ``Secret`` its value; ``None`` while there is none.

        There is none either while the journal has not been read, and where the value of a ``Secret`` is not found.
        """
        return self._questions.answered(name)

    def is_answered(self, name: str) -> bool:
        """Whether the question *name* is answered, no included. This asks nothing, unlike a wait for it."""
        return self._questions.answered(name) is not None

    def reopen(self, name: str, reason: str, *, refused: object = ANY) -> bool:
        """Drop the answer to the question *name*, in every process of the journal: calls wait for another one.

            service.calls.reopen("token:huggingface", "the token was refused: 401", refused=token)

        ``QuestionReopened`` is published. A question without an answer gets the reason, too.

        Args:
            name: The name of the question.
            reason: Why, for the person who answers; redacted.
            refused: The value that was refused. If the answer is another one by now, it is kept.

        Returns:
            Whether that changed anything.

        Raises:
            TypeError: *reason* is no text, or empty.
        """
        return self._questions.reopen(name, reason, refused=refused)

    def refused_by(self, name: str, failure: FailureClassified) -> bool:
        """Open the question *name* again if the attempt that failed had its answer; *failure* is the reason.

        An attempt had it if its call began after the answer, or waited for it. A no stays.
        """
        return self._questions.refused_by(name, failure)

    def look_again(self, condition: Condition) -> None:
        """Poll *condition* now if a call waits for it: something may have changed."""
        self._waiting.conditions.poll_soon(condition)
