"""The runner of functions whose calls may be held before they begin: those with ``before`` or ``claims``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recovery.execution.runner import Failure, Run, Runner
from recovery.waiting.daemon_threads import start_daemon
from recovery.waiting.waiters import Latch

if TYPE_CHECKING:
    from events.attempt import Attempt
    from recovery.execution.invocation import Args, Kwargs
    from recovery.settings import OperationConfig
    from recovery.subscribers.holds import Holds, Observed


class HeldRunner(Runner):
    """As ``Runner``. Each call is known to ``Holds`` from before its start to its end, however it ends.

    Args:
        holds: Holds the calls.
        args: As of ``Runner``.
    """

    def __init__(self, holds: Holds, *args: Any) -> None:
        super().__init__(*args)
        self._holds = holds

    def run(self, attempt: Attempt, args: Args, kwargs: Kwargs, error: Failure = None, run: Run = None) -> Any:
        """As ``Runner.run``."""
        call, first = attempt.call, error is None and attempt.number == 1
        unmet = _unmet(self._holds.before(self.config)) if first and self.config.before else ()
        try:
            self._holds.enter(call, self.config, args, kwargs, unmet)
            return super().run(attempt, args, kwargs, error, run)
        finally:
            self._holds.leave(call.id)

    async def arun(self, attempt: Attempt, args: Args, kwargs: Kwargs, error: Failure = None, run: Run = None) -> Any:
        """As ``run``, for an async function."""
        call, first = attempt.call, error is None and attempt.number == 1
        unmet = await self._unmet_soon() if first and self.config.before else ()
        try:
            self._holds.enter(call, self.config, args, kwargs, unmet)
            return await super().arun(attempt, args, kwargs, error, run)
        finally:
            self._holds.leave(call.id)

    def varied(self, config: OperationConfig) -> Runner:
        """As ``Runner.varied``."""
        return HeldRunner(self._holds, self.original, self.definition, self.waiting, self._journal, config)

    async def _unmet_soon(self) -> list[Observed]:
        """As ``_unmet``; conditions that may block are polled in a thread."""
        conditions = self._holds.before(self.config)
        if hasattr(self._bus.clock, "wait") or not any(one.asked.blocks for one in conditions):
            return _unmet(conditions)  # a virtual clock would race past a thread
        found: list[Observed] = conditions
        polled = Latch()

        def poll() -> None:
            nonlocal found
            try:
                found = _unmet(conditions)
            finally:
                polled.open()

        start_daemon("recovery-before", poll)
        await polled.opened()
        return found


def _unmet(conditions: list[Observed]) -> list[Observed]:
    """*conditions*, unless all of them hold now."""
    for one in conditions:
        try:
            if not one.poll():
                return conditions
        except Exception:
            return conditions  # the wait logs it
    return []
