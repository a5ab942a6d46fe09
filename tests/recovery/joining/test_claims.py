"""Claims between processes. Two services on one journal stand for two processes, which differ in their files alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.errors import CallRejectedError, JoinedElsewhere
from events.operation_events import RetryScheduled
from recovery import context
from recovery.journal.store import Claim, Row, Taken
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.recovery.joining.callers import Body, in_thread, joined
from tests.recovery.resume.dead_process import Killed, kill, kill_at

KEYED: dict[str, Any] = {"idempotency_key": str, "resumable": True, "initial_delay": 0.0, "max_retries": 0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


@contextmanager
def service_of(path: Path, body: Callable[..., Any], **settings: Any) -> Iterator[tuple[Recovery, Any]]:
    """A process with the operation "work", which has the journal open."""
    with Recovery(store=SQLiteStore(path)) as service:
        work = service.recoverable("work", **{**KEYED, **settings})(body)
        assert service.journal is not None
        service.journal.pending(10.0)
        yield service, work


def leave(path: Path, body: Callable[[], object] = lambda: context.checkpoint(21), **settings: Any) -> None:
    """Leave the call "a", as a process does that is killed in its body."""
    service = Recovery(store=SQLiteStore(path))

    def die(_: str) -> None:
        body()
        assert service.journal is not None
        service.journal.receipt().wait()
        kill(service)

    with service, pytest.raises(Killed):
        service.recoverable("work", **{**KEYED, **settings})(die)("a")


def claimed(path: Path) -> Claim:
    """A claim of another process on the call "a"."""
    claim = SQLiteStore(path).claim(msgspec.json.encode(("work", "", "a")))
    assert not isinstance(claim, Taken)
    return claim


def is_free(path: Path) -> bool:
    claim = SQLiteStore(path).claim(msgspec.json.encode(("work", "", "a")))
    if isinstance(claim, Taken):
        return False
    claim.release()
    return True


def waits(caplog: pytest.LogCaptureFixture, count: int = 1) -> None:
    """Wait until that many calls have said that they wait for another process."""
    for _ in range(10_000):
        if caplog.text.count("runs an equal call") >= count:
            return
        threading.Event().wait(0.001)
    raise AssertionError(caplog.text)


class Gated(SQLiteStore):
    """A store whose commits wait to be let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits = threading.Semaphore(0)
        self.begun = threading.Semaphore(0)
        self.is_gated = False

    async def append(self, rows: Sequence[Row]) -> None:
        if self.is_gated:
            self.begun.release()
            assert self.commits.acquire(timeout=10.0)
        await super().append(rows)


def test_d16_a_claim_is_kept_until_the_end_of_the_last_call_is_committed(path: Path) -> None:
    store = Gated(path)
    with Recovery(store=store) as service:
        work = service.recoverable("work", **KEYED)(lambda _: None)
        assert service.journal is not None
        service.journal.pending(10.0)
        store.is_gated = True
        work("a")
        assert store.begun.acquire(timeout=10.0)
        work("a")  # its events come with the second commit
        store.commits.release()
        assert store.begun.acquire(timeout=10.0)
        was_free = is_free(path)
        store.is_gated = False
        store.commits.release()
        service.journal.receipt().wait()
        for _ in range(1000):
            if is_free(path):
                break
            threading.Event().wait(0.001)
        assert (was_free, is_free(path)) == (False, True)


def test_a_pending_call_outlives_a_caller_that_is_rejected(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave(path)
    claim = claimed(path)
    with service_of(path, lambda _: context.saved(), max_elapsed=0.05) as (_, work):
        with pytest.raises(CallRejectedError, match="still runs an equal call after 0"):
            work("a")
        claim.release()
        assert work("a") == 21
    assert caplog.text.count("this one waits for its end, at most 0.05 s") == 1


@pytest.mark.anyio
async def test_a_pending_call_outlives_a_caller_that_is_cancelled(path: Path) -> None:
    leave(path)
    claim = claimed(path)

    async def body(_: str) -> Any:
        return context.saved()

    async with Recovery(store=SQLiteStore(path)) as service:
        work = service.recoverable("work", **KEYED)(body)
        with anyio.move_on_after(0.05) as scope:
            await work("a")
        claim.release()
        assert scope.cancelled_caught
        assert await work("a") == 21


@pytest.mark.anyio
async def test_a_caller_waits_on_where_another_of_its_process_is_cancelled(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = Body()

    async def never(_: str) -> None:
        raise AssertionError("it ran a second time")

    with service_of(path, body) as (_, theirs):
        running = in_thread(theirs, "a")
        body.begun.acquire()
        async with Recovery(store=SQLiteStore(path)) as service, anyio.create_task_group() as group:
            ours = service.recoverable("work", **KEYED)(never)
            group.start_soon(ours, "a")
            await anyio.to_thread.run_sync(waits, caplog)

            async def join() -> None:
                with pytest.raises(JoinedElsewhere, match="succeeded in another process"):
                    await ours("a")

            async with anyio.create_task_group() as second:
                second.start_soon(join)
                await anyio.to_thread.run_sync(joined, service, 1)
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    body.go_on.set()
                    await anyio.to_thread.run_sync(running.result, 10.0)


def test_a_resumption_that_comes_too_late_owes_the_recorded_result(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other process began the call without knowing of the one that was left: it does for both."""
    body, settings = Body("done"), {"remember": 60.0}
    with service_of(path, body, **settings) as (_, theirs):
        leave(path, **settings)
        running = in_thread(theirs, "a")
        body.begun.acquire()
        with service_of(path, lambda _: "again", **settings) as (service, ours):
            resumption = service.resume()
            waits(caplog)
            body.go_on.set()
            assert running.result(10.0) == "done"
            assert resumption.wait(10.0)
            assert ours("a") == "done"
            assert [call.result for call in resumption.calls] == ["done"]


def test_a_call_that_ended_elsewhere_between_two_questions_is_not_run_again(path: Path) -> None:
    """The second question is asked since this process has taken over a call, which may have left calls of its body."""
    left = [msgspec.structs.replace(journals.started(one, "work"), idempotency_key=one) for one in ("a", "b")]
    journals.write_and_die(path, journals.rows_of(left))
    with (
        service_of(path, lambda call: f"their {call}", max_retries=1) as (they, theirs),
        service_of(path, str.upper, max_retries=1) as (_, ours),
    ):
        assert ours("a") == "A"
        assert theirs("b") == "their b"
        assert they.journal is not None
        they.journal.receipt().wait()
        with pytest.raises(JoinedElsewhere, match="succeeded in another process"):
            ours("b")
        assert ours("b") == "B"


def test_d16_where_claims_are_not_possible_one_warning_says_so(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.with_name("calls.db.d").mkdir()
    path.with_name("calls.db.d").joinpath("claims").mkdir()
    body = Body("done")
    with service_of(path, body) as (service, work):
        first = in_thread(work, "a")
        body.begun.acquire()
        second = in_thread(work, "a")
        joined(service, 1)
        body.go_on.set()
        assert [first.result(10.0), second.result(10.0), work("b")] == ["done", "done", 2]
    assert caplog.text.count("equal calls of two processes may run side by side") == 1


def test_a_call_that_waits_for_a_retry_keeps_the_rest_of_its_delay(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    settings = {"max_retries": 1, "initial_delay": 60.0, "jitter": "none"}
    body = Body(ConnectionError("reset"))
    with service_of(path, body, **settings) as (their_service, theirs):
        kill_at(their_service, RetryScheduled)
        dying = in_thread(theirs, "a")
        body.begun.acquire()
        with service_of(path, lambda _: "done", **settings) as (service, ours):
            in_thread(ours, "a")
            waits(caplog)
            body.go_on.set()
            assert isinstance(dying.exception(10.0), Killed)
            for _ in range(10_000):
                if service.calls.waiting():
                    break
                threading.Event().wait(0.001)
            [waiting] = service.calls.waiting()
            assert 30.0 < waiting.left <= 60.0


class Unclaimed(MemoryStore):
    async def calls_of(self, operation: str, since: float | None) -> Any:
        raise AssertionError("no other process can use it")


def test_a_journal_of_one_process_is_not_asked_for_the_calls_of_others(caplog: pytest.LogCaptureFixture) -> None:
    with Recovery(store=Unclaimed()) as service:
        assert service.recoverable("work", **KEYED)(lambda _: "done")("a") == "done"
    assert not caplog.records
