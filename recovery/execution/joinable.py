"""Start or join: run a call that equal calls may join, or wait for the one that runs; in threads and in tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from events.errors import RecoveryError
from events.own_log import own_log
from events.runner_api import give_up
from events.verdicts import GiveUp
from recovery.call_stack import is_nested
from recovery.execution.attempts import Request, request
from recovery.joining.claim_wait import ClaimWait
from recovery.joining.claims import ClaimBook
from recovery.joining.conflicts import conflict, has_other_arguments
from recovery.joining.continuation import Former, begin_resumed, continued
from recovery.joining.pending import PendingCalls
from recovery.joining.register import CallRegister
from recovery.joining.run import SharedRun
from recovery.joining.shared_call import JOIN_NOTICE, Join, Outcome, Rest, SharedCall, carried
from recovery.subscribers.exhausted import mark_nested
from recovery.subscribers.retry import MAYBE_SENT
from recovery.waiting.waiters import TaskWaiter, ThreadWaiter

if TYPE_CHECKING:
    from events.attempt import Attempt
    from events.bus import Bus
    from recovery.execution.invocation import Args, Kwargs
    from recovery.execution.runner import Runner
    from recovery.journal.core import JournalCore
    from recovery.journal.history import CallRecord
    from recovery.journal.store import Query
    from recovery.registry import Registry

OTHER_ARGUMENTS = "a call has the idempotency key of a call with other arguments, and gets its result"

OUTDATED = "a dead process was asked for it, and this one for something else in its place"

log = own_log("recovery")


class JoinableCalls:
    """Runs the joinable calls of a service: each once, for all its callers.

    Args:
        registry: The operations that are defined.
        journal: The journal, once there is one.
        bus: Where the calls that stay pending are published.
    """

    def __init__(self, registry: Registry, journal: Callable[[], JournalCore | None], bus: Bus) -> None:
        self._registry = registry
        self.register = CallRegister()
        """The calls that run or are pending, by identity."""
        self.pending = PendingCalls(registry, self.register, journal, bus)
        """What dead processes left."""
        self.claims = ClaimBook(journal)
        """The calls that no other process may run now."""
        self.cancel: Callable[[str, str], str] = lambda _call, _reason: ""
        """Cancels a call by its id; "" if that is not possible."""
        self._journal = journal
        self._is_silent = registry.is_silent
        self._clock = bus.clock

    def call(self, runner: Runner, args: Args, kwargs: Kwargs, former: Former | None = None) -> Any:
        """What a plain function returns for these arguments: by running it, or by joining an equal call.

        *former* is the ended call that is run again, if it is that.

        Raises what the function raises, and CallRejectedError or RecoveryError as ``recoverable`` documents.
        """
        made = request(runner.definition, runner.config, runner.codec, args, kwargs)
        if made.identity is not None and not self.pending.knows(runner.definition):
            if (query := self._ask(runner)) is not None:
                query.wait()
            self.pending.learn(runner.definition)
        made.former = former
        while isinstance(join := self._enter(runner, made, args, kwargs), Join):
            found = self._wait(join)
            if not (join.is_outdated and join.shared.outcome is not None):
                _note_repeated(former, runner, join.shared)
                break
        else:
            found = join
        return _deliver(found) if isinstance(found, Outcome) else self.run(runner, found, made)

    async def acall(self, runner: Runner, args: Args, kwargs: Kwargs, former: Former | None = None) -> Any:
        """As ``call``, for an async function."""
        made = request(runner.definition, runner.config, runner.codec, args, kwargs)
        if made.identity is not None and not self.pending.knows(runner.definition):
            if (query := self._ask(runner)) is not None:
                await query.await_answer()
            self.pending.learn(runner.definition)
        made.former = former
        while isinstance(join := self._enter(runner, made, args, kwargs), Join):
            found = await self._await(join)
            if not (join.is_outdated and join.shared.outcome is not None):
                _note_repeated(former, runner, join.shared)
                break
        else:
            found = join
        return _deliver(found) if isinstance(found, Outcome) else await self.arun(runner, found, made)

    def _ask(self, runner: Runner) -> Query[bool] | None:
        """What to wait for before the first call of an operation. Queries are answered in their order."""
        query, journal = self.pending.ask(), self._journal()
        if journal is None or (query is None and not journal.loaded.is_open):
            return None  # a call has waited for it in vain
        return self.claims.ask(runner.definition) or query

    # join

    def _enter(self, runner: Runner, made: Request, args: Args, kwargs: Kwargs) -> SharedCall | Join | Outcome:
        name, identity = runner.definition.operation.name, made.identity
        chain = tuple(one for one in carried.get() if one.state == "running")  # a task may outlive the body it began in
        if identity is None or any(one.identity == identity for one in chain):  # in the body of an equal call: nested
            return self.register.alone(SharedCall(None, name, args, kwargs))
        may_differ = runner.config.on_conflict == "join"
        left = None if may_differ else self.register.left(identity)
        if left is not None and left.record is not None and has_other_arguments(left, runner.codec, args, kwargs):
            self.pending.cancel(left.record.call)  # what a dead process was asked for is not wanted any more
        found = self.register.enter(
            identity,
            lambda: SharedCall(identity, name, args, kwargs),
            chain,
            lambda owed: may_differ or not has_other_arguments(owed, runner.codec, args, kwargs),
        )
        if isinstance(found, SharedCall) and found.args is None:
            found.args, found.kwargs = args, kwargs
        elif not isinstance(found, Outcome):
            shared = found.shared if isinstance(found, Join) else found
            if runner.config.idempotency_key is not None and has_other_arguments(shared, runner.codec, args, kwargs):
                self._differ(found, shared, runner, args, kwargs)
        return found

    def _differ(self, found: SharedCall | Join, shared: SharedCall, runner: Runner, args: Args, kwargs: Kwargs) -> None:
        """The call has the key of *shared*, and other arguments.

        Where the resumption runs it for no caller of this process, it gives way. Raises CallRejectedError for another.
        """
        definition = runner.definition
        if runner.config.on_conflict == "join":
            definition.warn_once(OTHER_ARGUMENTS, str(shared))
        elif isinstance(found, Join):
            call = shared.attempt.call.id if shared.attempt is not None else ""
            if shared.is_resumed_here and shared.joins == [found] and self.cancel(call, OUTDATED):
                found.is_outdated = True
                return
            found.leave()
            raise conflict(shared, runner.codec, args, kwargs)

    def _wait(self, join: Join) -> Outcome | SharedCall:
        try:
            while (seconds := join.next_sleep(waiter := ThreadWaiter())) is not None:
                if not waiter.wait(seconds) and join.slept():
                    self._say_long(join)
            return join.take()
        finally:
            join.leave()

    async def _await(self, join: Join) -> Outcome | SharedCall:
        try:
            while (seconds := join.next_sleep(waiter := TaskWaiter())) is not None:
                try:
                    if not await waiter.wait(seconds) and join.slept():
                        self._say_long(join)
                finally:
                    waiter.close()
            return join.take()
        finally:
            join.leave()

    def _say_long(self, join: Join) -> None:
        if not self._is_silent(join.shared.name):
            # What is resumed runs as long as it takes: a server until its block is over.
            level = logging.INFO if join.shared.is_resumed_here else logging.WARNING
            text = "%s is joined for %g s now; its caller, or the resumption, still runs it"
            log.log(level, text, join.shared, JOIN_NOTICE)

    # run

    def run(self, runner: Runner, shared: SharedCall, made: Request | None = None, extra: float = 0.0) -> Any:
        """Run *shared* in this thread, for all its callers.

        Args:
            runner: Runs its function.
            shared: The call, which the register has given to this caller.
            made: What its arguments make, for a call that is new.
            extra: Seconds that a call waits which a dead process left, if nothing is left of its delay.
        """
        run = SharedRun(self.register, shared, runner.config.may_repeat, runner.definition)
        claim = None if shared.identity is None else ClaimWait(self.claims, shared, runner.definition, self._clock)
        token = carried.set((*carried.get(), shared))
        try:
            if claim is not None:
                while (seconds := claim.next_sleep()) is not None:
                    ThreadWaiter().wait(seconds)
                if (query := claim.query()) is not None:
                    self._settle(runner, claim, shared, query.wait())
            attempt, recorded = self._begin(runner, run, made, extra, claim), None
            if (results := runner.results) is not None and run.may_recall:
                recorded = results.recall(attempt.call)
            if results is not None and recorded is not None:
                result = results.codec.decoded(recorded.result)
            else:
                if claim is not None:
                    claim.check()
                result = runner.run(attempt, *run.arguments, run.error, run)
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            carried.reset(token)
            if claim is not None:
                claim.leave()
        run.succeed(result)
        return result

    async def arun(self, runner: Runner, shared: SharedCall, made: Request | None = None, extra: float = 0.0) -> Any:
        """As ``run``, in this task."""
        run = SharedRun(self.register, shared, runner.config.may_repeat, runner.definition)
        claim = None if shared.identity is None else ClaimWait(self.claims, shared, runner.definition, self._clock)
        token = carried.set((*carried.get(), shared))
        try:
            if claim is not None:
                while (seconds := claim.next_sleep()) is not None:
                    import anyio  # here, for a call that another process runs

                    await anyio.sleep(seconds)
                if (query := claim.query()) is not None:
                    self._settle(runner, claim, shared, await query.await_answer())
            attempt, recorded = self._begin(runner, run, made, extra, claim), None
            if (results := runner.results) is not None and run.may_recall:
                recorded = await results.arecall(attempt.call)
            if results is not None and recorded is not None:
                result = results.codec.decoded(recorded.result)
            else:
                if claim is not None:
                    claim.check()
                result = await runner.arun(attempt, *run.arguments, run.error, run)
        except BaseException as error:
            run.fail(error)
            raise
        finally:
            carried.reset(token)
            if claim is not None:
                claim.leave()
        run.succeed(result)
        return result

    def _settle(self, runner: Runner, claim: ClaimWait, shared: SharedCall, record: CallRecord | None) -> None:
        """Note what other processes made of *shared*; it is not gone on with if it is quarantined."""
        if claim.settle(record):
            self._registry.forget_pending()  # its process has died, and may have left the calls that its body made
            self.pending.check_death(shared, runner.definition)
        self.pending.take(shared)

    def _begin(
        self, runner: Runner, run: SharedRun, made: Request | None, extra: float, claim: ClaimWait | None
    ) -> Attempt:
        """The attempt that this caller makes first: of a new call, or where another caller or process left it."""
        shared, definition = run.shared, runner.definition
        if claim is not None and claim.ended is not None:
            run.may_recall = True
            if claim.superseded is not None:  # or it would be done a second time
                continued(claim.superseded, definition.operation).cancel()
            return continued(claim.ended, definition.operation)
        run.has_begun, shared.claimed_elsewhere = True, None
        rest, shared.start = shared.start, None
        if rest is None and shared.record is not None:
            journal = self._journal()
            assert journal is not None
            begun = begin_resumed(shared.record, definition, journal, extra)
            if isinstance(begun, Rest):
                rest = begun
                _note_repeated(None if made is None else made.former, runner, shared)
            else:  # what is over is not joined
                error = RecoveryError(f"{shared} is not resumed: {begun}")
                if begun == MAYBE_SENT:  # it is not begun again unasked
                    raise error
                shared.record = None
                if made is None:
                    run.release(error)
                    raise error
        if rest is None:  # of a new call
            assert made is not None
            shared.args, shared.kwargs = made.args, made.kwargs
            rest, run.may_recall = Rest(made.begin(runner.config.version)), True
        run.rest, shared.attempt = rest, rest.attempt
        if rest.refusal is not None:
            give_up(rest.attempt, GiveUp(rest.refusal))
            raise RecoveryError(f"{shared} is not run again: {rest.refusal}")
        if rest.delay > 0.0 or rest.is_paused:
            rest.wait = runner.first_wait(rest.attempt, rest.delay, is_paused=rest.is_paused)
        return rest.attempt


def _deliver(outcome: Outcome) -> Any:
    """What a caller gets that did not run the call itself."""
    error = outcome.error
    if error is None:
        return outcome.result
    try:
        if is_nested():  # judged in the stack of this caller
            mark_nested(error)
        raise error.with_traceback(outcome.traceback)
    finally:
        del error, outcome  # the traceback holds this frame


def _note_repeated(former: Former | None, runner: Runner, joined: SharedCall) -> None:
    """Note that *former* is run again by the call that its caller has *joined*."""
    call = joined.record.call if joined.attempt is None and joined.record else joined.attempt and joined.attempt.call.id
    if former is not None and call:
        former.repeated_by(runner.definition.operation, call)
