"""Idempotency keys, and the results that are recorded under them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.memory import MemoryStore
from adapters.sqlite.store import SQLiteStore
from events.operation_events import GaveUp
from recovery import context
from recovery.journal.config import JournalConfig
from recovery.journal.lookup import Lookup, RecentCallCache
from recovery.journal.queue import WriteQueue
from recovery.journal.store import Store
from recovery.service import Recovery
from recovery.testing import FaultyStore, Script
from tests.recovery.journal.test_lookup import CountingStore
from tests.recovery.resume.dead_process import Killed

SETTINGS: dict[str, Any] = {"idempotency_key": lambda order: order, "remember": 3600.0, "initial_delay": 0.0}


def paying(service: Recovery, paid: list[str], *, is_async: bool = False, **settings: Any) -> Callable[[str], Any]:
    def pay(order: str) -> Any:
        paid.append(order)
        return {"receipt": len(paid)}

    async def apay(order: str) -> Any:
        return pay(order)

    if not is_async:
        return service.recoverable("pay", **{**SETTINGS, **settings})(pay)
    call = service.recoverable("pay", **{**SETTINGS, **settings})(apay)
    return lambda order: anyio.run(call, order)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
def test_a_finished_key_is_not_done_again_and_known_after_a_restart(tmp_path: Path, is_async: bool) -> None:
    paid = list[str]()
    for _ in range(2):
        with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
            pay = paying(service, paid, is_async=is_async)
            assert [pay(order)["receipt"] for order in "aaba"] == [1, 1, 2, 1]
    assert paid == ["a", "b"]


def test_the_file_is_read_once_for_the_results_of_earlier_runs() -> None:
    store = CountingStore()
    with Recovery(store=store) as service:
        pay = paying(service, [])
        for order in "aab":
            pay(order)
    assert store.reads == 1


def test_a_key_that_does_not_fit_into_memory_is_found_in_the_file(tmp_path: Path) -> None:
    paid: list[str] = []
    config = JournalConfig(recent_bytes=1000)
    with Recovery(store=SQLiteStore(tmp_path / "calls.db"), journal_config=config) as service:
        pay = paying(service, paid)
        for order in "abcdefgh":
            pay(order)
        service.journal.receipt().wait()
        assert pay("a") == {"receipt": 1}
    assert paid == list("abcdefgh")


def test_a_result_is_good_for_so_long_and_no_longer() -> None:
    paid: list[str] = []
    with Recovery(store=MemoryStore()) as service:
        pay = paying(service, paid, remember=0.0)
        pay("a")
        pay("a")
    assert paid == ["a", "a"]


def test_a_result_of_another_version_is_none(tmp_path: Path) -> None:
    paid: list[str] = []
    for version in ("1", "2", "2"):
        with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
            paying(service, paid, version=version)("a")
    assert paid == ["a", "a"]


def test_a_result_that_was_adopted_is_found(tmp_path: Path) -> None:
    paid: list[str] = []
    heir = Recovery(store=SQLiteStore(tmp_path / "calls.db"))
    with heir:
        pay = paying(heir, paid)
        pay("a")  # all results are known, by now
        with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as other:
            paying(other, paid)("b")
        heir.resume().wait(10.0)
        assert pay("b") == {"receipt": 2}
    assert paid == ["a", "b"]


def test_a_name_that_could_be_taken_for_a_name_with_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="must not hold a NUL"):
        Recovery().recoverable("one\0a")(lambda: None)


@pytest.mark.parametrize("result", ["paid", None])
def test_a_call_that_gave_up_is_done_again_and_a_result_after_a_failure_is_recorded(result: str | None) -> None:
    script = Script(ValueError("no"), ConnectionError(), result)
    with Recovery(store=MemoryStore()) as service:
        call = service.recoverable("pay", **SETTINGS)(lambda order: script())
        with pytest.raises(ValueError, match="no"):
            call("a")
        for _ in range(2):
            assert call("a") == result
            service.journal.receipt().wait()
    assert script.calls == 3


def test_a_result_that_is_no_plain_data_is_returned_and_said_not_to_be_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    paid: list[str] = []
    with Recovery(store=MemoryStore()) as service, caplog.at_level(logging.WARNING):
        pay = service.recoverable("pay", **SETTINGS)(lambda order: (paid.append(order), pytest))
        pay("a")
        assert pay("a") == (None, pytest)
    assert paid == ["a", "a"]
    why = "the result is a tuple that holds a module, which cannot be journalled: return plain data"
    assert caplog.messages == [f"pay: a result is not recorded: {why}"]


@pytest.mark.parametrize("fail_at", [1, 3, 4])
def test_a_journal_that_fails_does_not_forget_what_waits(fail_at: int) -> None:
    paid: list[str] = []
    store: Store = FaultyStore(MemoryStore(), fail_at=fail_at, sticky=True)
    with Recovery(store=store) as service:
        pay = paying(service, paid)
        assert [pay("a"), pay("a")] == [{"receipt": 1}] * 2
    assert paid == ["a"]


def test_the_key_is_the_same_for_all_attempts_and_after_a_restart() -> None:
    store, keys = MemoryStore(), list[str]()
    settings: dict[str, Any] = {**SETTINGS, "resumable": True}
    with Recovery(store=store) as service:

        def dies(order: str) -> None:
            keys.append(context.key())
            if context.attempt() == 1:
                raise ConnectionError
            service.journal.seal()  # type: ignore[union-attr]
            raise Killed

        with pytest.raises(Killed):
            service.recoverable("pay", **settings)(dies)("order-7")
    with Recovery(store=store) as service:
        pay = service.recoverable("pay", **settings)(lambda order: keys.append(context.key()))
        assert service.resume().wait(10.0)
        pay("order-7")
    assert keys == ["order-7"] * 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"remember": 5.0}, ValueError, "remember needs an idempotency_key"),
        ({"idempotency_key": str, "remember": -1.0}, ValueError, "remember must be at least 0"),
        ({"idempotency_key": str, "remember": "1"}, TypeError, "remember must be a number"),
        ({"idempotency_key": "x"}, TypeError, "idempotency_key must be a plain function"),
        ({"idempotency_key": str, "durability": "lazy"}, ValueError, "idempotency_key and durability='lazy'"),
        ({"idempotency_key": str, "enable_persistence": False}, ValueError, "idempotency_key and enable_persistence"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Recovery(store=MemoryStore()).recoverable("pay", **settings)


def test_an_idempotency_key_needs_a_store() -> None:
    with pytest.raises(
        ValueError, match=r"idempotency_key=.* needs a service with a store.*cluster\.submit\(\.\.\., idempotency_key="
    ):
        Recovery().recoverable("pay", idempotency_key=str)


def test_what_else_waits_makes_looking_for_a_result_no_slower() -> None:
    def took() -> float:
        best = math.inf
        for _ in range(20):
            began = time.perf_counter()
            lookup.result("fetch", "nobody's")
            best = min(best, time.perf_counter() - began)
        return best

    queue = WriteQueue()
    lookup = Lookup(RecentCallCache("r"), queue, lambda query: query.end())
    alone = took()
    for number in range(9_000):
        queue.put(GaveUp(at=0.0, operation="fetch", call=str(number)))
    assert took() < 20.0 * alone


def test_a_secret_in_a_key_is_warned_of_once_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    secret = "https://me:hunter2@example.org/"
    with Recovery(store=MemoryStore()) as service:
        pay = service.recoverable("pay", idempotency_key=str, key=str)(lambda order: None)
        pay("https://example.org/")
        assert caplog.text == ""
        for _ in range(2):
            pay(secret)
    assert caplog.text.count("holds a secret") == 2  # one for each setting
    assert "hunter2" not in caplog.text


# The wall clock is set (D17)


@pytest.mark.parametrize("days", [3650, 1, -1])
@pytest.mark.parametrize("restarts", [False, True], ids=["in one process", "after a restart"])
def test_d17_a_jump_of_the_wall_clock_loses_no_remembered_result_within_a_boot(
    days: int, restarts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paid, wall = list[str](), time.time
    with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
        pay = paying(service, paid)
        first = pay("a")
        if not restarts:
            monkeypatch.setattr(time, "time", lambda: wall() + days * 86400.0)
            assert pay("a") == first
    monkeypatch.setattr(time, "time", lambda: wall() + days * 86400.0)
    with Recovery(store=SQLiteStore(tmp_path / "calls.db")) as service:
        service.bus.publish(GaveUp(at=0.0, operation="other", call="c"))
        service.journal.receipt().wait()  # type: ignore[union-attr]  # it has pruned
        assert paying(service, paid)("a") == first
    assert paid == ["a"]


def test_d17_a_remembered_result_expires_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    paid, monotonic = list[str](), time.monotonic
    with Recovery(store=MemoryStore()) as service:
        pay = paying(service, paid, remember=60.0)
        pay("a")
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 61.0)
        pay("a")
    assert paid == ["a", "a"]
