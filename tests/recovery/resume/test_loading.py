"""Reading the journal for calls to resume: very many of them, damaged rows, a file that cannot be read yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from adapters.memory import MemoryStore
from events.operation_events import OperationResumed, OperationStarted
from recovery.journal.config import JournalConfig
from recovery.journal.history import Run
from recovery.journal.store import Wants
from recovery.service import Recovery
from tests.recorded_events import events_of
from tests.recovery.resume.dead_process import SETTINGS, leave, resume


async def nothing(_: int) -> None: ...


def test_a_damaged_row_does_not_stop_the_others(caplog: pytest.LogCaptureFixture, store: MemoryStore) -> None:
    leave(store, "a")
    first = store.rows[0]
    store.rows.appendleft(type(first)(first.run, "other", "OperationStarted", b"garbage", 99))
    seen: list[Any] = []
    resume(store, seen.append)
    assert seen == ["a"]
    assert "call other" in caplog.text


@pytest.mark.anyio
async def test_overdue_calls_start_with_jitter_and_the_first_at_once(store: MemoryStore) -> None:
    for number in range(3):
        leave(store, number)
    async with Recovery(store=store, rng=lambda: 0.5) as service:
        events = events_of(service, OperationResumed)
        service.recoverable("work", **SETTINGS)(nothing)
        await service.resume()
    assert sorted(event.after for event in events if isinstance(event, OperationResumed)) == [0.0, 0.02, 0.02]


@pytest.mark.anyio
@pytest.mark.slow
async def test_the_first_of_very_many_calls_does_not_wait_for_the_last() -> None:
    store, begun = MemoryStore(), []
    with Recovery(store=store) as service:
        assert service.journal is not None
        service.operation("work", durability="journal")
        for number in range(2000):
            arguments = msgspec.Raw(b"[[%d],{}]" % number)
            service.bus.publish(OperationStarted(at=0.0, operation="work", call=f"c-{number}", arguments=arguments))
    with pytest.raises(KeyError, match="enough"):
        async with Recovery(store=store) as service:
            events = events_of(service, OperationResumed)

            async def work(_: int) -> None:
                begun.append(len(events))

            service.recoverable("work", **SETTINGS)(work)
            service.resume()
            while not begun:
                await anyio.sleep(0.001)
            raise KeyError("enough")  # the rest would take seconds
    assert begun[0] < 1000


class LockedAtFirst(MemoryStore):
    """Cannot be opened, or adopts half of the rows of *store* and fails, the first *times*."""

    def __init__(self, broken: str, store: MemoryStore, times: int = 1) -> None:
        super().__init__()
        self.rows, self.runs = (store.rows, store.runs) if broken == "open" else (MemoryStore().rows, {})
        self.broken, self.times, self.store = broken, times, store

    async def open(self, run: Run) -> Sequence[str]:
        if self.broken == "open":
            self.fail()
        return await super().open(run)

    async def adopt(self, wants: Wants | None = None) -> bool:
        if self.broken == "adopt" and not self.rows:
            self.rows.extend(self.store.rows)
            self.fail()
        return False

    def fail(self) -> None:
        if self.times:
            self.times -= 1
            raise OSError("database is locked")


@pytest.mark.parametrize("broken", ["open", "adopt"])
def test_calls_of_a_locked_journal_are_resumed_once_it_can_be_read(broken: str, store: MemoryStore) -> None:
    leave(store, "a")
    seen: list[Any] = []
    config = JournalConfig(first_pause=0.005)
    with Recovery(store=LockedAtFirst(broken, store), journal_config=config) as service:
        service.recoverable("work", **SETTINGS)(seen.append)
        assert service.resume().wait(10.0)
    assert seen == ["a"]


@pytest.mark.anyio
async def test_an_async_service_does_not_wait_for_an_unreadable_journal() -> None:
    with anyio.fail_after(3.0):
        async with Recovery(store=LockedAtFirst("open", MemoryStore(), times=1000)) as service:
            resumption = service.resume()
    assert (resumption.loaded.is_open, resumption.calls) == (True, [])


def test_closing_the_service_ends_the_wait_for_an_unreadable_journal() -> None:
    with Recovery(store=LockedAtFirst("open", MemoryStore(), times=1000)) as service:
        resumption = service.resume()
        assert not resumption.loaded.wait(0.01)
    assert resumption.wait(3.0)
