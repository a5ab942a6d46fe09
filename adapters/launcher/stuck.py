"""The question whether a server is started again whose work makes no progress: ``stuck:NAME``."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from adapters.launcher.bricks import Bricks
from adapters.launcher.server import POLICY
from events.errors import CallRejectedError, NeedsPerson
from events.evidence import Remedy

LOOK_EVERY = 1.0
"""Seconds between two looks."""

log = logging.getLogger("recovery.launch")


def stuck_question(name: str) -> str:
    """The question whether *name* is started again, since it seems to be stuck."""
    return f"stuck:{name}"


class StuckBrick(Bricks):
    """Asks a person about work that seems to be stuck. Nothing is ended without a yes."""

    def _declare(self) -> None:
        super()._declare()
        self._recoverable("stuck", self._stuck, lambda name, *_: f"stuck {name}", policy=POLICY, resumable=False)

    async def watch_stuck(
        self,
        name: str,
        is_due: Callable[[], bool],
        start_over: Callable[[], object],
        problem: Callable[[], str],
        restart: Callable[[str], object],
        look_every: float = LOOK_EVERY,
    ) -> None:
        """Ask ``stuck:NAME`` whenever *is_due*, until this is cancelled: yes calls *restart*, no goes on waiting.

        The question is withdrawn when there is a sign of life. After a no it is asked again when the silence has lasted
        as long once more.

        Args:
            name: The name in the question.
            is_due: Whether there has been no sign of life for too long. Asked again and again.
            start_over: Called after an answer: the silence begins anew.
            problem: What seems to be stuck, and since when, as a sentence without its end.
            restart: Called with the reason after a yes.
            look_every: Seconds between two calls of *is_due*.
        """
        while True:
            await anyio.sleep(look_every)
            if not is_due():
                continue
            text = problem()
            log.warning("%s; it is not ended for that", text)
            is_yes = await self._asks(name, text, is_due, look_every)
            start_over()
            if is_yes:
                restart(f"{text}; a person has answered {stuck_question(name)} with yes")

    async def _asks(self, name: str, text: str, is_due: Callable[[], bool], look_every: float) -> bool:
        """Whether the answer is yes. No answer is needed any more as soon as it is not due."""
        is_yes, question, calls = False, stuck_question(name), self.service.calls
        async with anyio.create_task_group() as group:

            async def withdraw() -> None:
                while is_due() or calls.answered(question) is not None:
                    await anyio.sleep(look_every)
                group.cancel_scope.cancel()

            group.start_soon(withdraw)
            try:
                await self._call("stuck", name, text)
                is_yes = True
            except (NeedsPerson, CallRejectedError):  # a no
                is_yes = False
            group.cancel_scope.cancel()
        if calls.answered(question) is not None:  # it was for this time
            calls.reopen(question, "it seems to be stuck once more")
        return is_yes

    async def _stuck(self, name: str, text: str) -> None:
        question = stuck_question(name)
        if self.service.calls.answered(question) is not True:
            cure = "Answer yes to end it and start it again, no to go on waiting"
            raise NeedsPerson(text, remedy=Remedy(f"{cure}. {text}", question=question))
