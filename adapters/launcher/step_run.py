"""One run of steps: does what ``saga`` decides, and commits the record of it before each effect."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

import anyio
import msgspec

from adapters.launcher import saga
from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.nested_calls import end_calls, noting
from adapters.launcher.saga import Ask, AskPerson, Begin, Begun, Do, End, RunRecord, Undo
from adapters.launcher.step_functions import StepFunctions, called, check_arguments, plain
from events.errors import NeedsPerson, Permanent, StaysPendingError
from events.evidence import Remedy
from recovery import context
from recovery.journal.errors import NotDurable
from recovery.journal.journal import Journal
from recovery.redact import brief
from recovery.service import Recovery

LOOK_INTERVAL = 0.1
"""Seconds between two looks whether a run that is cancelled, and undone, must end at once."""

UNDO_CHOICES = ("retry", "skip", "give up")
STEPS_CHOICES = ("go on", "undo", "give up")

Recovered: TypeAlias = Callable[[str, str, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Makes the recoverable call "step" or "undo" that is labelled so: what a dead process left of it goes on."""

log = logging.getLogger("recovery.launch")


class StepsUndoneError(Permanent):
    """A run of steps did not reach its end, and its steps are undone. Its cause is the error of the step.

    Args:
        message: What failed, and what was undone.
        run: The group of steps and the name of the run.
        step: The step that failed, or in which the process died; "" for none.
        undone: The steps that were undone, in that order.
        kept: The steps that were not: they have no undo, or a person said so.
    """

    def __init__(
        self, message: str, run: str = "", step: str = "", undone: tuple[str, ...] = (), kept: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.run, self.step, self.undone, self.kept = run, step, undone, kept


class StepRun:
    """One attempt of a run.

    Args:
        what: The group of steps and the name of the run.
        steps: The steps of the program, in their order; more may be registered while it runs.
        arguments: What they are called with.
        service: Has the journal, and asks questions.
        recovered: Makes the recoverable calls of single steps.
        has_joined: Whether other callers go on with the run if this one is cancelled.
    """

    def __init__(
        self,
        what: str,
        steps: Mapping[str, StepFunctions],
        arguments: Mapping[str, Any],
        service: Recovery,
        recovered: Recovered,
        has_joined: Callable[[], bool],
    ) -> None:
        journal = service.journal
        assert journal is not None  # or it could not be declared
        self._what = what
        self._steps = steps
        self._arguments = arguments
        self._calls = service.calls
        self._journal: Journal = journal
        self._recovered = recovered
        self._end_calls = partial(end_calls, service, journal, what)
        self._has_joined = has_joined
        self._context = copy_context()  # of this call: a step is a call of its own, and notes its calls here
        self._record = saved_record() or RunRecord(steps=tuple(steps), process=journal.run.id)
        self._names: tuple[str, ...] | None = None  # those to go on with, where a person said so
        self._cause: Exception | None = None
        self._is_warned = False

    async def run(self, on_crash: saga.OnCrash) -> dict[str, Any]:
        """Go on with the run to its end; what each step returned.

        Raises:
            StepsUndoneError: It was undone.
            NeedsPerson: An undo failed, or the steps have changed: it bears the question.
            StaysPendingError: The journal is closed, and the next process goes on.
        """
        try:
            self._record = saga.taken_up(self._record, self._journal.run.id, on_crash)
            await self._heed_answer()
            await self._go_on()
        except anyio.get_cancelled_exc_class():
            await self._cancelled()
            raise
        return self._record.results

    async def _go_on(self) -> None:
        while True:
            match self._next():
                case Begin(step):
                    await self._begin(step)
                case Ask(step):
                    await self._ask(step)
                case Do(step):
                    await self._do(step)
                case Undo(begun):
                    await self._undo(begun)
                case AskPerson():
                    await self._ask_how_to_go_on()
                case End(is_undone=True):
                    raise self._undone_error() from self._cause
                case End():
                    return

    def _next(self) -> saga.Action:
        found = saga.next_action(self._record, self._names or tuple(self._steps))
        if isinstance(found, Begin | Ask | Do) and self._misfit():
            return AskPerson()
        return found

    def _misfit(self) -> str:
        """Why the steps of the program cannot be called with the journalled arguments; "" if they can."""
        try:
            check_arguments(self._what, self._steps, self._arguments)
        except InvalidRequestError as error:
            return str(error)
        return ""

    async def _commit(self, record: RunRecord) -> None:
        """Journal *record*, and wait until it is committed. Where nothing can be written the run goes on in memory."""
        self._record = record
        self._context.run(context.checkpoint, record)
        try:
            await self._journal.receipt().committed()
        except NotDurable as error:
            if self._journal.is_closed:
                raise StaysPendingError(f"{self._what} stays pending: {error}") from None
            if not self._is_warned:
                text = "%s goes on, but what it does is not journalled (%s): if the process dies, nothing is undone"
                log.warning(text, self._what, error)
            self._is_warned = True

    # forward

    async def _begin(self, name: str) -> None:
        before, needed = self._steps[name].before, None
        if before is not None:
            try:
                found = await self._recovered("step", f"{name} (before)", self._forward(before))
                needed = plain(f"before= of step {name!r}", found)
            except Exception as error:
                await self._give_up(name, error)
                return
        await self._commit(saga.begin(self._record, name, needed))

    async def _ask(self, name: str) -> None:
        done = self._steps[name].done
        try:
            found = None if done is None else await self._recovered("step", f"{name} (done?)", self._forward(done))
            result = plain(f"done= of step {name!r}", None if found is True else found) if found else None
        except Exception as error:
            await self._give_up(name, error)
            return
        if found:
            await self._end_calls(self._record.calls, cancel=False)
        await self._commit(saga.finish(self._record, result) if found else saga.not_there(self._record))

    async def _do(self, name: str) -> None:
        try:
            returned = await self._recovered("step", name, self._forward(self._steps[name].do))
            result = plain(f"step {name!r}", returned)
        except Exception as error:
            await self._give_up(name, error)
            return
        await self._commit(saga.finish(self._record, result))

    async def _give_up(self, name: str, error: Exception) -> None:
        if self._journal.is_closed:  # it was stopped, and has not failed
            raise StaysPendingError(f"{self._what} stays pending: the journal is closed") from error
        self._cause, why = error, f"step {name!r} failed: {_said(error)}"
        log.warning("%s: %s; undoing %d steps", self._what, why, len(self._record.begun))
        await self._commit(saga.given_up(self._record, name, why))

    def _call(self, function: Callable[..., Any], begun: Begun | None = None) -> Callable[[], Awaitable[Any]]:
        """The call of *function*, for its step that has *begun*, if it is not the open one."""
        begun = begun or self._record.open or Begun("")
        values = {**self._arguments, **self._record.results, "before": begun.before, "result": begun.result}
        return partial(called, function, values)

    def _forward(self, function: Callable[..., Any]) -> Callable[[], Awaitable[Any]]:
        """As ``_call``, for what is not undone yet: the calls of bricks that it makes are noted."""
        call = self._call(function)

        async def noted() -> Any:
            token = noting.set(self._note)
            try:
                return await call()
            finally:
                noting.reset(token)

        return noted

    async def _note(self, call: str) -> None:
        if call not in self._record.calls:
            await self._commit(saga.noted(self._record, call))

    # back

    async def _undo(self, begun: Begun) -> None:
        await self._end_calls(self._record.calls, cancel=True)  # or they would have their effect after the undo
        step = self._steps.get(begun.name)
        if step is not None and step.undo is None:
            await self._commit(saga.undone(self._record, is_kept=True))
            return
        try:
            if step is None or step.undo is None:
                raise LookupError(f"this program has no step {begun.name!r} to undo it with")
            await self._recovered("undo", begun.name, self._call(step.undo, begun))
        except Exception as error:
            await self._ask_about_undo(begun.name, error)
        await self._commit(saga.undone(self._record))

    async def _ask_about_undo(self, name: str, error: Exception) -> None:
        if self._journal.is_closed:
            raise StaysPendingError(f"{self._what} stays pending: the journal is closed") from error
        names = ", ".join(one.name for one in self._record.begun)
        why = f"{self._what}: undoing step {name!r} failed: {_said(error)}"
        state = f"{why}; it was undone because {self._record.why}; still to be undone: {names}"
        sentence = f"{state}. Answer: retry it, skip it (it stays as it is), or give up (all of these stay)"
        await self._ask_person("undo", sentence, UNDO_CHOICES, why)

    async def _ask_how_to_go_on(self) -> None:
        record, names = self._record, tuple(self._steps)
        begun = ", ".join(f"{one.name}{'' if one.is_done else ' (open)'}" for one in record.begun) or "none"
        why = f"{self._what} was begun with other steps than this program has"
        lists = f"then: {', '.join(record.steps)}; begun: {begun}; now: {', '.join(names)}"
        if problem := "" if not saga.fits(record, names) else self._misfit():
            lists = f"{lists}; {problem}"
        sentence = f"{why} ({lists}). Start the program that has them, or answer: go on, undo, or give up"
        await self._ask_person("steps", sentence, STEPS_CHOICES, why)

    async def _ask_person(self, asked: saga.Asked, sentence: str, choices: tuple[str, ...], why: str) -> None:
        """Raise the question; the launcher parks the call until it is answered, and then makes another attempt."""
        question = f"{asked}:{self._what}"
        if self._calls.is_answered(question):  # of an earlier run: it must not count
            self._calls.reopen(question, brief(why))
        await self._commit(msgspec.structs.replace(self._record, asked=asked))
        remedy = Remedy(brief(sentence), question=question, kind="choice", choices=choices)
        raise NeedsPerson(brief(sentence), remedy=remedy) from None

    async def _heed_answer(self) -> None:
        record = self._record
        answer = self._calls.answered(f"{record.asked}:{self._what}") if record.asked else None
        match record.asked, answer:
            case "undo", "skip":
                await self._commit(saga.undone(record, is_kept=True))
            case _, "give up":
                await self._commit(saga.left(record))
            case "steps", "undo":
                await self._commit(saga.given_up(record, "", "its steps have changed, and a person said undo"))
            case "steps", "go on":
                self._record, self._names = saga.adapted(record, tuple(self._steps))

    async def _cancelled(self) -> None:
        """A run that is cancelled is undone; not one that is stopped, or that other callers go on with."""
        is_over = self._journal.is_closed or not self._record.begun
        if is_over or (self._has_joined() and not context.cancelled()):
            return
        with anyio.CancelScope(shield=True), suppress(StaysPendingError):
            if not self._record.why:
                await self._commit(saga.given_up(self._record, "", "it was cancelled"))
            log.warning("%s was cancelled: undoing %d steps", self._what, len(self._record.begun))
            async with anyio.create_task_group() as group:
                group.start_soon(self._leave_when_stopped, group.cancel_scope)
                try:
                    await self._go_on()
                except StepsUndoneError as error:
                    log.warning("%s", error)
                except NeedsPerson as error:  # a call that is cancelled cannot wait for an answer
                    text = "%s was cancelled, and is half undone: %s"
                    log.error(text, self._what, error)  # the error says it all
                finally:
                    group.cancel_scope.cancel()

    async def _leave_when_stopped(self, scope: anyio.CancelScope) -> None:
        while not self._journal.is_closed:
            await anyio.sleep(LOOK_INTERVAL)
        scope.cancel()

    def _undone_error(self) -> StepsUndoneError:
        record = self._record
        return StepsUndoneError(
            f"{self._what}: {saga.told(record)}", self._what, record.failed, record.undone, record.kept
        )


def saved_record() -> RunRecord | None:
    """What an earlier attempt or process has journalled of the run that runs here."""
    saved = context.saved()
    return None if saved is None else msgspec.convert(saved, RunRecord)


def _said(error: Exception) -> str:
    return brief(f"{type(error).__name__}: {error}", 300)
