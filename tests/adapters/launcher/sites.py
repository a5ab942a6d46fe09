"""A site that steps change, and processes that die while they do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from adapters.launcher import Launcher, Steps
from adapters.launcher.saga import OnCrash
from adapters.memory import MemoryStore
from recovery import Constant, RetryPolicy
from recovery.journal.store import Store
from recovery.service import Recovery

ONE_RETRY = RetryPolicy(max_retries=1, backoff=Constant(0.0))


class Site:
    """What steps do: *log* says what was called, *there* which effects are there."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.there: list[str] = ["v0"]
        self.on: dict[str, Callable[[], Any]] = {}
        """What happens in a function after its effect, by its entry in the log."""

    async def does(self, what: str) -> None:
        self.log.append(what)
        if what in self.on:
            found = self.on[what]()
            if found is not None:
                await found

    def declare(self, launcher: Launcher, on_crash: OnCrash = "finish", *, steps: str = "move install") -> Steps:
        update = launcher.steps("update", on_crash=on_crash)

        async def version() -> str:
            return self.there[0]

        async def restore(before: str) -> None:
            self.there[0] = before
            await self.does("undo move")

        async def move(ref: str) -> str:
            self.there[0] = ref
            await self.does("move")
            return f"was moved to {ref}"

        async def install(move: str) -> None:
            assert move.startswith("was moved")
            self.there.append("packages")
            await self.does("install")

        async def uninstall() -> None:
            self.there[1:] = []
            await self.does("undo install")

        async def is_installed() -> bool:
            await self.does("done?")
            return "packages" in self.there

        async def other() -> None:
            await self.does("other")

        for step in steps.split():
            match step:
                case "move":
                    update.step(before=version, undo=restore)(move)
                case "install":
                    update.step(undo=uninstall, done=is_installed)(install)
                case _:
                    update.step(name=step)(other)
        return update


@asynccontextmanager
async def process(store: Store, root: Path) -> AsyncIterator[tuple[Launcher, Callable[[], Any]]]:
    """A launcher of its own, and what kills its process when a step calls it."""
    with anyio.CancelScope() as scope:
        service = Recovery(store=store)
        async with Launcher(service, root, policy=ONE_RETRY) as launcher:

            def die() -> Any:
                assert service.journal is not None
                service.journal.seal()
                scope.cancel()
                return anyio.sleep_forever()

            yield launcher, die


async def died(store: MemoryStore, root: Path, site: Site, where: str, on_crash: OnCrash = "finish") -> None:
    """A process runs the steps, and dies in the function *where*."""
    async with process(store, root) as (launcher, die):
        site.on = {where: die}
        update = site.declare(launcher, on_crash)
        launcher.resume()
        await update.run("comfyui", ref="v1")
    site.on = {}
