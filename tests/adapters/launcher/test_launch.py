from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from adapters.demo.server import Reset, Stall
from adapters.launcher.launch import Launch
from adapters.launcher.plan import load_plan
from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.event import Event
from events.journal_events import JournalDegraded
from events.operation_events import FailureClassified, OperationCancelled, OperationResumed
from recovery.service import Recovery
from tests.adapters.downloads.targets import CONTENT, SHA256, Target
from tests.recorded_events import events_of

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
        outcomes = await Launch(plan, service, logs=plan.journal.parent / "logs").run()
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    [degraded] = trouble
    assert isinstance(degraded, JournalDegraded)
    assert str(plan.journal.parent) in degraded.reason


DOWNLOAD = '[[operation]]\nname = "{name}"\nkind = "download"\nurl = "{url}"\ndestination = "{name}.bin"\n'


async def killed(plan: Path, store: MemoryStore, ended: Callable[[Launch], object]) -> None:
    """Run the launch of *plan* as a process that is killed once *ended* is true: nothing after it is written."""
    service = Recovery(store=store)
    launch = Launch(load_plan(plan), service, logs=plan.parent / "logs")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(launch.run)
            while not ended(launch):
                await anyio.sleep(0.005)
            assert service.journal is not None
            service.journal.seal()
            scope.cancel()


async def test_an_edited_plan_keeps_what_is_done_and_names_what_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, store = tmp_path / "launch.toml", MemoryStore()
    with Target(tmp_path) as target, Target(tmp_path, faults=[Stall(0.5, seconds=5.0)] * 2) as slow:
        steps = {"model": target.url, "lora": slow.url, "gone": slow.url}
        path.write_text("".join(DOWNLOAD.format(name=name, url=url) for name, url in steps.items()))
        await killed(path, store, lambda launch: len(launch.outcomes) == 1 and len(slow.requests) == 2)
        steps = {"model": target.url, "lora": target.url}
        path.write_text("# edited\n" + "".join(DOWNLOAD.format(name=name, url=url) for name, url in steps.items()))
        service = Recovery(store=store)
        resumed = events_of(service, OperationResumed, OperationCancelled)
        outcomes = await Launch(load_plan(path), service, logs=tmp_path / "logs").run()
    assert {name: outcome.state for name, outcome in outcomes.items()} == {"model": "done", "lora": "done"}
    assert len(target.requests) == 2  # the model was not fetched again, and the lora from its new place
    assert sorted(type(event).__name__ for event in resumed) == ["OperationCancelled"] * 2 + ["OperationResumed"]
    for name in ("lora", "gone"):
        assert f"{name} is changed or gone since the last run; its call" in caplog.text


async def test_a_launch_goes_on_where_a_killed_one_stopped(tmp_path: Path) -> None:
    path, store = tmp_path / "launch.toml", MemoryStore()
    with Target(tmp_path) as target, Target(tmp_path, faults=[Stall(0.5, seconds=5.0)]) as slow:
        steps = {"model": target.url, "lora": slow.url}
        path.write_text("".join(DOWNLOAD.format(name=name, url=url) for name, url in steps.items()))
        await killed(path, store, lambda launch: len(launch.outcomes) == 1 and slow.requests)
        outcomes = await Launch(load_plan(path), Recovery(store=store), logs=tmp_path / "logs").run()
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]
    assert (len(target.requests), len(slow.requests)) == (1, 2)


@pytest.mark.parametrize("after", [0, 3900, 4000, 4096, 5000])
async def test_no_part_of_a_secret_that_a_command_printed_is_evidence(tmp_path: Path, after: int) -> None:
    path, service = tmp_path / "launch.toml", Recovery(store=MemoryStore())
    said = f"'https://me:' + 'hunter22' * 20 + '@example.org', 'y ' * {after // 2}"
    run = f'run = ["{sys.executable}", "-S", "-c", "import sys; print({said}); sys.exit(1)"]'
    path.write_text(f'[retry]\nmax_retries = 0\n[[operation]]\nname = "c"\nkind = "command"\n{run}\n')
    failures = events_of(service, FailureClassified)
    await Launch(load_plan(path), service, logs=tmp_path / "logs").run()
    [failure] = failures
    assert isinstance(failure, FailureClassified)
    assert failure.evidence is not None
    assert failure.evidence.stderr
    assert "hunter22" not in failure.evidence.stderr
