from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adapters.demo.server import Reset
from adapters.launcher import Launch, load_plan
from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from events.journal_events import JournalDegraded
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, SHA256, Target

pytestmark = pytest.mark.anyio


def plan_of(target: Target, folder: Path) -> Path:
    """A plan that downloads the file of *target*, then runs a command."""
    path = folder / "launch.toml"
    path.write_text(
        f"[retry]\nmax_retries = 1\ninitial_delay = 0.001\n"
        f'[[operation]]\nname = "model"\nkind = "download"\nurl = "{target.url}"\ndestination = "model.bin"\n'
        f'sha256 = "{SHA256}"\n'
        f'[[operation]]\nname = "check"\nkind = "command"\nneeds = ["model"]\nrun = ["{sys.executable}", "-c", ""]\n'
    )
    return path


async def test_a_download_that_progresses_at_each_attempt_is_not_given_up(tmp_path: Path) -> None:
    faults = [Reset(0.1 * number) for number in range(1, 10)]
    with Target(tmp_path, faults=faults, rate=5e7) as target:
        plan = load_plan(plan_of(target, tmp_path))
        outcomes = await Launch(plan, Recovery(store=MemoryStore()), logs=tmp_path / "logs").run()
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    assert (tmp_path / "model.bin").read_bytes() == CONTENT


async def test_a_launch_whose_journal_cannot_be_written_goes_on_in_memory(tmp_path: Path) -> None:
    trouble: list[Event] = []
    with Target(tmp_path) as target:
        plan = load_plan(plan_of(target, tmp_path))
        plan.journal.parent.write_text("a file where a folder should be")
        service = Recovery(store=SQLiteStore(plan.journal))
        service.bus.subscribe(JournalDegraded, trouble.append)
        outcomes = await Launch(plan, service, logs=plan.journal.parent / "logs", load_timeout=0.3).run()
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    [degraded] = trouble
    assert isinstance(degraded, JournalDegraded)
    assert str(plan.journal.parent) in degraded.reason
