"""The brick for steps: functions of the program that have their effect all together, or are undone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeVar, overload

import anyio.to_thread
import msgspec

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.asked_again import AskedAgain
from adapters.launcher.bricks import Bricks
from adapters.launcher.nested_calls import note
from adapters.launcher.saga import OnCrash, RunRecord
from adapters.launcher.step_functions import StepFunctions, check_arguments
from adapters.launcher.step_run import StepRun, StepsUndoneError, saved_record
from events.errors import JoinedElsewhere, NeedsPerson
from events.evidence import Category
from recovery import context, validation
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.service import Recovery

F = TypeVar("F", bound=Callable[..., Any])

MOST_DEATHS = 1_000_000
"""Deaths of its process after which a run is quarantined; a step that kills its process gives up earlier."""

ANSWER_TIMEOUT = 24 * 3600.0
"""Seconds that a run waits for an answer, where an undo has failed, or the steps have changed."""

PENDING_TIMEOUT = 5.0
"""Seconds that a run waits for the journal to say what earlier processes left."""

log = logging.getLogger("recovery.launch")


class Steps:
    """What ``Launcher.steps`` returns: a list of steps, and their runs.

    Args:
        name: The name of the group.
        on_crash: As of ``Launcher.steps``.
        service: Runs them.
        asked_again: Lets resumed runs wait for the program.
        call: Makes the recoverable call of that kind ("steps", "step" or "undo") of the run of that name.
    """

    def __init__(
        self,
        name: str,
        on_crash: OnCrash,
        service: Recovery,
        asked_again: AskedAgain,
        call: Callable[..., Awaitable[Any]],
    ) -> None:
        self.name = name
        self._on_crash: OnCrash = on_crash
        self._service = service
        self._asked_again = asked_again
        self._call = call
        self._steps: dict[str, StepFunctions] = {}
        self._make: Callable[[dict[str, Any]], Iterable[StepFunctions]] | None = None
        self._is_complete = False

    @overload
    def step(self, function: F, /) -> F: ...

    @overload
    def step(
        self,
        /,
        *,
        undo: Callable[..., Any] | None = None,
        done: Callable[..., Any] | None = None,
        before: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Callable[[F], F]: ...

    def step(
        self,
        function: Any = None,
        /,
        *,
        undo: Callable[..., Any] | None = None,
        done: Callable[..., Any] | None = None,
        before: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Any:
        """Make a function the next step: ``@update.step``, or ``@update.step(undo=restore)``.

        The functions are plain or async; plain ones run in a worker thread. Each gets, by name, those of the arguments
        of ``run`` that it has parameters for, what earlier steps returned (by the name of the step), what *before*
        returned (``before``), and what the step itself returned (``result``).

        Args:
            function: Has the effect. It may be called again: by a retry, and after a crash unless *done* says that the
                effect is there. What it returns must be plain data.
            undo: Takes the effect away. It is called as well if only a part of the effect is there, or nothing, and
                called again if the process dies in it. None: what the step has done stays.
            done: Tells after a crash whether the effect is there; what it returns, if not True, is the step's result.
            before: Returns what *undo* needs, such as the version that is there now. It is journalled before the step
                begins.
            name: What the step is journalled as; by default the name of the function.

        Raises:
            TypeError: What is given is no function, or a generator, or has parameters that cannot be given by name.
            ValueError: There is a step of that name, or an undo gets something of that name.
        """

        def add(do: F) -> F:
            own = getattr(do, "__name__", "") if name is None else name
            if not own:
                raise TypeError(f"steps {self.name!r}: {do!r} has no name; give one: step(name=...)")
            if own in self._steps:
                raise ValueError(f"steps {self.name!r} have a step {own!r} already; give another name: step(name=...)")
            made = StepFunctions(name=own, do=do, undo=undo, done=done, before=before)
            made.check()
            self._steps[own] = made
            return do

        return add if function is None else add(function)

    def made_by(self, make: Callable[[dict[str, Any]], Iterable[StepFunctions]]) -> None:
        """Let *make* make the steps of each run from its arguments, in the place of ``step``."""
        self._make = make

    def _steps_of(self, arguments: dict[str, Any]) -> dict[str, StepFunctions]:
        return self._steps if self._make is None else {one.name: one for one in self._make(arguments)}

    async def run(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """Run the steps in their order; what each returned, by its name.

        Each step is retried by the policy of the launcher. If one gives up, those that have begun are undone, the
        last one first. If the process dies, ``launcher.resume()`` goes on with the run, or undoes it. A run that is
        cancelled is undone, one that is stopped is left to the next process. An equal run that is under way is joined.

        Args:
            name: The name of this run: two of one name never run at the same time.
            arguments: What the steps are called with, as plain data; they are journalled.

        Raises:
            InvalidRequestError: An argument is missing, is no plain data, or no step takes it; or *name* is no text.
            CallRejectedError: A run of that name is under way with other arguments.
            StepsUndoneError: A step has failed, and all are undone; the message says what is not.
        """
        if not isinstance(name, str) or not name:
            raise InvalidRequestError(f"a run of {self.name!r} needs a name, as text, not {name!r}")
        what = f"{self.name} {name}"
        check_arguments(what, self._steps_of(arguments), arguments)
        self._is_complete = True
        await self._finish_left(name, arguments)
        await note(f"{self.name} {name}")
        while True:
            try:
                results: dict[str, Any] = await self._call("steps", name, name, arguments)
            except JoinedElsewhere as elsewhere:
                record = await self._service.calls.afind(elsewhere.call)
                if record is not None and record.arguments and _arguments_of(record.arguments) != (name, arguments):
                    continue  # another process ran it with other arguments: now it is our turn
                if elsewhere.ended != "succeeded" or record is None or record.saved is None:
                    raise
                return msgspec.json.decode(record.saved, type=RunRecord).results
            return results

    async def _finish_left(self, name: str, arguments: dict[str, Any]) -> None:
        """Finish, or undo, the run of that name that an earlier process left with other arguments."""
        journal = self._service.journal
        assert journal is not None  # or it could not be declared
        pending = await anyio.to_thread.run_sync(journal.pending, PENDING_TIMEOUT)
        for left in pending.calls:
            if left.operation != f"steps {self.name}" or not left.arguments:
                continue
            own, journalled = _arguments_of(left.arguments)
            if own != name or journalled == arguments:
                continue
            record = await self._service.calls.afind(left.call)
            if record is None or record.is_over:
                continue
            log.warning("%s %s: an earlier run has other arguments; it is ended first", self.name, name)
            try:
                await self._call("steps", name, name, journalled)
            except StepsUndoneError as error:
                log.warning("%s", error)

    async def body(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The recoverable call: go on with the run of that *name*."""
        what, steps = f"{self.name} {name}", self._steps_of(arguments)
        if (saved := saved_record()) is not None:
            needed = f"the steps {', '.join(saved.steps)} of {self.name!r} are not all registered"
            await self._asked_again.until(lambda: self._is_known(saved.steps, steps), what, needed)

        async def recovered(kind: str, label: str, work: Callable[[], Awaitable[Any]]) -> Any:
            labels.add(label)
            return await self._call(kind, name, f"{what}: {label}", work)

        labels, calls, key = {*steps}, self._service.calls, context.key()
        run = StepRun(what, steps, arguments, self._service, recovered, lambda: calls.joining(key) > 0)
        try:
            return await run.run(self._on_crash)
        finally:
            self._forget({f"{what}: {label}" for label in labels})

    def _forget(self, keys: set[str]) -> None:
        """Cancel the calls of single steps that a dead process left in this run, and that it did not go on with."""
        journal = self._service.journal
        assert journal is not None  # or it could not be declared
        for left in () if journal.is_closed else journal.pending(0.0).calls:
            if left.idempotency_key in keys and left.operation.startswith((f"step {self.name}", f"undo {self.name}")):
                self._service.calls.cancel(left.call)

    def _is_known(self, begun: tuple[str, ...], steps: Collection[str]) -> bool:
        """Whether the program has said all that it says of the *steps*: it has those *begun* with, or runs, or ends."""
        return {*begun} <= {*steps} or self._is_complete or self._asked_again.has_ended


class StepsBrick(Bricks):
    """Steps."""

    answer_timeout: float = ANSWER_TIMEOUT
    """Seconds that the runs of steps wait for an answer, of those that are declared from now on; 0 does not wait."""

    def steps(self, name: str, *, on_crash: OnCrash = "finish") -> Steps:
        """A list of steps that have their effect all together, or are undone. Declare it before ``resume``.

            update = launcher.steps("update")

            @update.step(before=version_of, undo=restore)
            async def move(repo: str, ref: str) -> None: ...

            await update.run("comfyui", repo="ComfyUI", ref="v0.4")

        Args:
            name: Its name; the journal knows its runs as calls of the operation ``steps NAME``.
            on_crash: What ``resume`` does with a run whose process died: "finish" it, or "undo" it.

        Raises:
            ValueError: *name* is empty or taken, or *on_crash* is neither of these.
        """
        validation.choice("on_crash", on_crash, ("finish", "undo"))
        if not isinstance(name, str) or not name:
            raise ValueError(f"steps need a name, not {name!r}")
        if ("steps " + name, "") in self._functions:
            raise ValueError(f"this launcher has steps {name!r} already; use what steps() returned the first time")

        async def call(kind: str, run: str, *arguments: Any) -> Any:
            own = run if kind != "steps" and run in self._policies else ""
            return await self._functions[f"{kind} {name}", own](*arguments)

        made = Steps(name, on_crash, self.service, self._asked_again, call)
        for kind in ("step", "undo"):
            self._recoverable(f"{kind} {name}", _work, _label, resumable=False)
        waits = {}
        if self.answer_timeout:
            asks = (self.service.calls.question_of,)
            waits[Category.AUTH] = Strategy(wait_for=asks, wait_timeout=self.answer_timeout)
        self._functions[f"steps {name}", ""] = self.service.recoverable(
            f"steps {name}",
            policy=RetryPolicy(max_retries=MOST_DEATHS, per_category=waits),
            breaker=None,
            idempotency_key=lambda run, _arguments: f"{name} {run}",
            resumable=True,
            on_conflict="reject",
            retry_if_error=_needs_person,
        )(made.body)
        return made


def _arguments_of(journalled: bytes) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a run, as its call has them."""
    arguments, _ = msgspec.json.decode(journalled, type=tuple[tuple[str, dict[str, Any]], dict[str, Any]])
    return arguments


async def _work(_label: str, work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


def _label(label: str, _work: object) -> str:
    return label


def _needs_person(error: Exception) -> bool | None:
    """No error of a run is retried: its steps were. One that bears a question is parked on it."""
    return None if isinstance(error, NeedsPerson) else False
