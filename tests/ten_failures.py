"""Ten operations that failed in ten ways, in one journal and one service that lives: to try what readers say of them.

    python -m tests.ten_failures FOLDER     # prints the commands to try, and lasts until Ctrl-C

All failures are real: servers on loopback refuse, git has a lock, a port is taken, a process is killed. The names of
the operations do not give the causes away.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from adapters.demo.server import Answer, FileServer, Hosted, free_port
from adapters.downloads.space import disk_usage, headroom, when_full
from adapters.launcher.launcher import Launcher
from adapters.sqlite.store import SQLiteStore
from events.operation_events import GaveUp, Parked, RetryScheduled
from recovery import Constant, RetryPolicy
from recovery.presets import waits_for_causes
from recovery.service import Recovery
from tests.adapters.git.repositories import Upstream
from tests.adapters.packages.environments import make_environment
from tests.adapters.packages.index import ALONE, Index

CAUSES = {
    "checkpoint": "the disk has no room for it",
    "encoder": "nothing listens at its host",
    "upscaler": "the server answers 429 with Retry-After",
    "licensed": "the server answers 401, and a person is asked for a token",
    "preview": "its bytes have another sha256",
    "plug-in": "git holds a lock of its repository",
    "packages": "two of them contradict each other",
    "server": "its port is taken",
    "converter": "its process crashes with SIGSEGV",
    "render": "its process was killed, and none goes on with it",
}
"""Why each operation has failed."""

ROOT = Path(__file__).parent.parent
LEFT = "render"
LATER = RetryPolicy(max_retries=5, backoff=Constant(600.0), jitter="none")
QUICK = RetryPolicy(max_retries=1, backoff=Constant(0.1))
MOST_SECONDS = 30.0
"""Seconds within which all have failed: git is given ten to let go of its lock."""


@asynccontextmanager
async def ten_failures(folder: Path) -> AsyncIterator[Recovery]:
    """A service, with its journal at ``journal.db`` in *folder*, whose operations have all failed, and stay so."""
    folder.mkdir(parents=True, exist_ok=True)
    journal, root = folder / "journal.db", folder / "files"
    root.mkdir()
    words = [sys.executable, "-m", "tests.ten_failures", "--die", str(journal.absolute())]
    subprocess.run(words, cwd=ROOT, check=False, timeout=20)
    service = Recovery(store=SQLiteStore(journal), enable_logging=False)
    waits = waits_for_causes(service.calls, partial(when_full, folder=root))
    policies = {"plug-in": LATER, "upscaler": LATER}
    launcher = Launcher(
        service,
        root,
        policy=msgspec.structs.replace(QUICK, per_category=waits),
        policies={name: msgspec.structs.replace(one, per_category=waits) for name, one in policies.items()},
    )
    failed, all_failed = set[str](), anyio.Event()

    def note(event: GaveUp | Parked | RetryScheduled) -> None:
        if isinstance(event, RetryScheduled) and event.after < 60.0:
            return
        failed.add(event.call)
        if len(failed) == len(CAUSES) - 1:
            all_failed.set()

    async with AsyncExitStack() as stack:
        calls = await _calls(stack, launcher, root)
        service.bus.subscribe((GaveUp, Parked, RetryScheduled), note)
        await stack.enter_async_context(launcher)
        group = await stack.enter_async_context(anyio.create_task_group())
        for call in calls.values():
            group.start_soon(_tolerant, call)
        with anyio.fail_after(MOST_SECONDS):
            await all_failed.wait()
        yield service
        launcher.stop()
        group.cancel_scope.cancel()


async def _calls(stack: AsyncExitStack, launcher: Launcher, root: Path) -> Mapping[str, Callable[[], Any]]:
    """What makes each operation fail, by its name. Its servers and processes last as long as *stack*."""
    limited = [Answer(429, {"Retry-After": "600"})] * 9
    hosted = {"/u": Hosted(b"", faults=limited), "/l": Hosted(b"", faults=[Answer(401)] * 9), "/p": Hosted(b"GGUF....")}
    server, other = stack.enter_context(FileServer(hosted)), stack.enter_context(FileServer(hosted))
    index = stack.enter_context(Index())
    index.add("alib", "1.0")
    index.add("bapp", "1.0", requires=["alib<1"])
    stack.enter_context(_environment(ALONE))
    make_environment(root / "env")
    upstream = Upstream(root)
    stack.enter_context(subprocess.Popen(["git", "cat-file", "--batch"], cwd=upstream.here, stdin=subprocess.PIPE))
    (upstream.here / ".git" / "index.lock").touch()
    taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
    crash = f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})"

    async def serve() -> None:
        async with launcher.server(["true"], f"http://127.0.0.1:{taken}/", port=taken, name="server"):
            pass

    def download(name: str, url: str, **more: Any) -> Callable[[], Any]:
        return partial(launcher.download, url, name, name=name, **more)

    return {
        "checkpoint": download("checkpoint", f"{server.url}/p", size=_too_large(root)),
        "encoder": download("encoder", f"http://127.0.0.1:{free_port()}/e"),
        "upscaler": download("upscaler", f"{other.url}/u"),
        "licensed": download("licensed", f"{server.url}/l"),
        "preview": download("preview", f"{server.url}/p", sha256="0" * 64),
        "plug-in": partial(launcher.update, "here", "v1", name="plug-in"),
        "packages": partial(launcher.packages, "env", ["alib", "bapp"], indexes=[index.url], name="packages"),
        "server": serve,
        "converter": partial(launcher.run, [sys.executable, "-S", "-c", crash], name="converter"),
    }


def _too_large(folder: Path) -> int:
    """Bytes that the disk of *folder* could hold if it were empty, and that are not free."""
    total, free = disk_usage(folder)
    return min(free + 6_200_000_000, total - headroom(total) - 1)


async def _tolerant(call: Callable[[], Any]) -> None:
    with suppress(Exception):
        await call()


@contextmanager
def _environment(values: Mapping[str, str]) -> Any:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def die(journal: str) -> None:
    """Begin a resumable call in this process, and kill the process in the middle of it."""
    with Recovery(store=SQLiteStore(journal)) as service:

        @service.recoverable(LEFT, resumable=True, durability="strict")
        def render(prompt: str) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        render("a lighthouse at night")


async def show(folder: Path) -> None:
    """Make the failures, and last until Ctrl-C."""
    async with ten_failures(folder):
        journal = folder / "journal.db"
        click.echo(f"ten operations have failed: {', '.join(CAUSES)}")
        click.echo(f"try: recovery status {journal}; recovery why {journal} checkpoint; recovery web {journal}")
        await anyio.sleep_forever()


if __name__ == "__main__":
    if sys.argv[1] == "--die":
        die(sys.argv[2])
    else:
        with suppress(KeyboardInterrupt):
            anyio.run(show, Path(sys.argv[1]))
