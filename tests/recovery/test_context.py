from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest

from adapters.memory import MemoryStore
from recovery import context
from recovery.service import Recovery
from recovery.testing import Script
from tests.recorded_events import events_of, names


def test_there_is_no_context_outside_a_journalled_call() -> None:
    for ask in (context.saved, context.key, lambda: context.checkpoint(1)):
        with pytest.raises(LookupError, match="resumable=True"):
            ask()
    with pytest.raises(LookupError, match="no recoverable call runs"):
        context.attempt()
    assert not context.is_running()


def test_a_later_attempt_finds_what_an_earlier_one_saved() -> None:
    seen: list[Any] = []
    script = Script(ConnectionError(), ConnectionError())
    with Recovery(store=MemoryStore()) as service:

        @service.recoverable("copy", resumable=True, initial_delay=0.0)
        def copy() -> str:
            seen.append((context.attempt(), context.saved(default=0)))
            context.checkpoint({"offset": context.attempt() * 10})
            return script()

        copy()
    assert seen == [(1, 0), (2, {"offset": 10}), (3, {"offset": 20})]


def test_the_key_is_the_same_for_all_attempts_and_another_for_each_call() -> None:
    keys: list[str] = []
    script = Script(ConnectionError())
    with Recovery(store=MemoryStore()) as service:

        @service.recoverable("copy", resumable=True, initial_delay=0.0)
        def copy() -> str:
            keys.append(context.key())
            return script()

        copy()
        copy()
    assert keys[0] == keys[1] != keys[2]


def test_a_checkpoint_is_published() -> None:
    with Recovery(store=MemoryStore()) as service:
        events = events_of(service)
        service.recoverable("copy", resumable=True)(lambda: context.checkpoint([1, 2]))()
    assert names(events) == ["CheckpointSaved"]


def test_a_checkpoint_that_json_cannot_hold_is_refused() -> None:
    with Recovery(store=MemoryStore()) as service, pytest.raises(TypeError):
        service.recoverable("copy", resumable=True)(lambda: context.checkpoint(object()))()


@pytest.mark.anyio
async def test_tasks_and_worker_threads_of_a_call_have_its_context() -> None:
    keys: set[str] = set()

    async def note() -> None:
        keys.add(context.key())

    async with Recovery(store=MemoryStore()) as service:

        @service.recoverable("copy", resumable=True)
        async def copy() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(note)
            keys.add(await anyio.to_thread.run_sync(context.key))

        await copy()
    assert len(keys) == 1
