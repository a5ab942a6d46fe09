"""A launcher: downloads and commands that recover by themselves, join equal ones, and go on after a restart."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from adapters.launcher.all_bricks import AllBricks
from adapters.launcher.blocking import BlockingLauncher
from adapters.launcher.stopping import stopping
from recovery.service import Recovery


class Launcher(AllBricks):
    """Downloads and commands that recover by themselves. Each is a recoverable call of *service*.

        async with Launcher(presets.launcher(store=SQLiteStore("journal.db")), "models") as launcher:
            launcher.resume()
            await launcher.download("hf://org/repo/model.safetensors", to="checkpoints/model.safetensors")
            await launcher.run(["pip", "install", "-r", "requirements.txt"])

    A call is known by what it makes: a download by its destination, a command by its words and folder. So a program
    that is killed and runs again joins what ``launcher.resume()`` took up. Another wish for the same thing at the same
    time is rejected, and the error names both.

    ``async with`` enters the service, keeps one HTTP client, and turns SIGTERM, SIGHUP and Ctrl-C into a *stop*: the
    processes of commands end, no end is journalled, and the next run goes on. A second Ctrl-C kills them at once.
    Without it the methods work as well. One service has one launcher.

    Args:
        service: Runs the calls; it must have a store.
        root: The folder for destinations and commands.
        tokens: A token for a family of hosts ("huggingface", "civitai", "github", "gitlab") or for one host.
        parallel: How many downloads run at a time.
        stall_timeout: Seconds without a byte after which a download has stalled; it is retried, and goes on from there.
        follow_links: Whether destinations may go through links that lead outside the root.
        orphans: What is done with a command that a killed launcher left running, before it is run again: "wait" until
            it has ended, or "end" it.
        logs: The folder for the output of commands; by default ``.recovery/logs`` below the root.
        policy: When to retry; by default as ``presets.launcher``: ten retries in a row without progress, waits for room
            on the disk, for the host, and for an answer.
        policies: Those of the calls of a name, in the place of *policy*. Such a name has circuits of its own.
        breaker: The circuit of each host, for downloads and for repositories apart; ``None`` for none.
        classifier: As of ``Recovery``; asked before the built-in rules.
    """

    _stack: AsyncExitStack | None = None

    @classmethod
    def blocking(cls, service: Recovery, root: str | os.PathLike[str], **options: Any) -> BlockingLauncher:
        """A launcher for plain code: the same methods, which block. They run in one thread of its own.

        Args:
            service: As of ``Launcher``.
            root: As of ``Launcher``.
            options: Likewise.
        """
        launcher = cls(service, root, **options)
        return BlockingLauncher(launcher, launcher)

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("this launcher is entered already; one `async with` is enough")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(stopping(self.stop, self.kill))
            stack.push_async_callback(self._close_client)
            await stack.enter_async_context(self.service)
            self._stack = stack.pop_all()
        self._is_entered, self._asked_again.has_ended = True, False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        assert self._stack is not None
        self._is_entered, self._asked_again.has_ended = False, True
        return await self._stack.__aexit__(kind, error, traceback)
