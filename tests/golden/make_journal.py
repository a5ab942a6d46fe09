"""Make the journal that a release leaves behind when its process is killed: `python tests/golden/make_journal.py OUT`.

Run it with the code of that release, for example format 1:

    git worktree add ../old 94b6c40
    cp tests/golden/make_journal.py ../old && cd ../old && python make_journal.py journal-1.db

Then commit OUT here as ``journal-<format>.db``, once and for all: what a release wrote does not change any more.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitOpened
from recovery import context
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery


def leave(path: Path) -> None:
    """Work a little, and be gone in the middle of it."""
    service = Recovery(store=SQLiteStore(path))
    policy = RetryPolicy(backoff=(0.0,), jitter="none", max_retries=2)

    @service.recoverable("render", policy=policy, resumable=True)
    def render(scene: str, *, fails: int = 0) -> str:
        if context.attempt() <= fails:
            context.checkpoint({"frame": context.attempt() * 100})
            raise ConnectionError("no")
        if scene == "last":
            service.bus.publish(CircuitOpened(at=service.bus.clock(), operation="fetch", key="example.org", after=30.0))
            time.sleep(0.3)  # until it is written
            os._exit(0)
        return scene

    results: dict[str, object] = {"idempotency_key": str, "remember": 1e9}

    def bought(item: str) -> list[str]:
        return [item, "bought"]

    with service:
        with suppress(TypeError):  # format 1 recorded none
            service.recoverable("buy", resumable=True, **results)(bought)("bread")
        render("first")
        render("second", fails=2)
        with suppress(ConnectionError):
            render("third", fails=3)
        render("last", fails=1)


def main(out: Path) -> None:
    """Let a process leave a journal, and keep it as one file that says nothing of this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.db"
        child = os.fork()
        if not child:
            leave(path)
        os.waitpid(child, 0)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("UPDATE runs SET boot = 'another boot', pid = 1")
        out.write_bytes(path.read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
