"""The answers to secret questions: by reference, remembered, and otherwise in the memory of one process."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from adapters.disk import open_plain, try_lock
from adapters.memory import MemoryStore
from adapters.sqlite.remembered import read_remembered, remembered_at, write_remembered
from adapters.sqlite.store import SQLiteStore
from events import Event
from recovery import JournalConfig, Recovery, Secret, redact
from recovery.journal.errors import JournalError
from recovery.journal.store import Remembered, Store
from recovery.testing import Script, VirtualClock
from tests.recovery.waiting.parked import parks, steered

SECRET = "hunter2-swordfish"  # it is planted


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    yield
    redact.unhide()


def service_with(store: Store) -> Recovery:
    return Recovery(store=store, journal_config=JournalConfig(command_interval=0.01), enable_logging=True)


def soon(is_true: Callable[[], object]) -> bool:
    end = time.monotonic() + 5.0
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def written_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_a_missing_variable_asks_instead_of_raising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANTED", raising=False)
    service = Recovery(clock=VirtualClock())
    asked = service.calls.question("token", "secret")
    service.calls.answer("token", Secret("env:PLANTED"))

    def act(_: str) -> None:
        assert service.calls.answered("token") is None
        assert [one.reason for one in service.calls.questions()] == ["the environment has no PLANTED"]
        assert not service.calls.reopen("token", "no token: 401", refused=None)  # other processes may have it
        monkeypatch.setenv("PLANTED", SECRET)

    assert steered(service, Script(ConnectionError()), act, policy=parks(asked)) == []
    assert service.calls.answered("token") == SECRET
    assert redact.redact(f"say {SECRET}") == "say ***"


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "PLACE cannot be read: No such"), (" \n", "file:PLACE is empty")]
)
def test_a_file_without_a_secret_asks(tmp_path: Path, content: str | None, reason: str) -> None:
    place = tmp_path / "token"
    if content is not None:
        place.write_text(content)
    service = Recovery(clock=VirtualClock())
    asked = service.calls.question("token", "secret")
    service.calls.answer("token", Secret(f"file:{place}"))

    def act(_: str) -> None:
        [question] = service.calls.questions()
        assert question.reason.startswith(reason.replace("PLACE", str(place)))
        place.write_text(f"{SECRET}\n")

    assert steered(service, Script(ConnectionError()), act, policy=parks(asked)) == []


def test_each_process_looks_a_reference_up_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    store = MemoryStore()
    with service_with(store) as service, service_with(store) as other:
        service.calls.question("token", "secret")
        other.calls.answer("token", Secret("env:PLANTED"))  # it has not heard of the question
        assert soon(lambda: service.calls.answered("token") == SECRET)
    bodies = b"".join(row.body for row in store.rows)
    assert b'"value":{"$secret":"env:PLANTED"}' in bodies
    assert SECRET.encode() not in bodies


def test_no_byte_of_a_secret_answer_is_left_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    told: list[object] = []
    with service_with(SQLiteStore(tmp_path / "calls.db")) as service:
        service.bus.subscribe(Event, events.append)
        service.calls.question("token", "secret")
        service.calls.answer("token", SECRET)
        fetch = service.recoverable("fetch", max_retries=0)(Script(ConnectionError(f"401 for {SECRET}")))
        with pytest.raises(ConnectionError) as raised:
            fetch()
        told += [raised.value.__notes__, service.calls.questions(), redact.redacted(events[0]), service]
        service.calls.reopen("token", f"{SECRET} was refused")
        service.calls.answer("token", f"{SECRET}-2")
        told += [event for event in events if "Question" in type(event).__name__]
        assert service.journal is not None
        service.journal.receipt().wait()
        assert b"QuestionReopened" in written_in(tmp_path)
        assert SECRET.encode() not in written_in(tmp_path)
    assert SECRET.encode() not in written_in(tmp_path)
    assert SECRET not in caplog.text + repr(told)


def test_a_remembered_secret_outlasts_a_restart_until_it_is_refused_or_replaced() -> None:
    store = MemoryStore()
    for replace in (
        lambda service: service.calls.reopen("token", "refused: 401"),
        lambda service: service.calls.answer("token", "another-secret"),
    ):
        with service_with(store) as service:
            service.calls.question("token", "secret")
            service.calls.answer("token", SECRET, remember=True)
        with service_with(store) as service:
            service.calls.question("token", "secret")
            assert soon(lambda: service.calls.answered("token") == SECRET)  # it is called at once
            replace(service)
        with service_with(store) as service:
            service.calls.answer("public")
            assert service.journal is not None
            service.journal.receipt().wait()
            assert not service.calls.is_answered("token")
    assert SECRET.encode() not in b"".join(row.body for row in store.rows)


def test_a_store_that_keeps_no_secrets_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Plain(MemoryStore):
        remember = Store.remember

    with service_with(Plain()) as service:
        service.calls.answer("token", SECRET, remember=True)
        assert service.calls.answered("token") == SECRET
    assert "cannot keep or drop the answer to the question 'token' (this store keeps no secrets" in caplog.text
    Recovery().calls.answer("token", SECRET, remember=True)
    assert "the answer to 'token' is not remembered: the service has no store to keep it in" in caplog.text
    assert SECRET not in caplog.text


def kept(name: str, value: str, at: float = 1.0) -> Remembered:
    return Remembered(name, at, value)


def keep(path: Path, *changed: Remembered) -> None:
    anyio.run(write_remembered, path, changed)


def test_the_file_of_secrets_is_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    keep(path, kept("a", ""))
    assert not remembered_at(path).parent.exists()
    keep(path, kept("a", "one"), kept("b", "two"))
    assert stat.S_IMODE(remembered_at(path).stat().st_mode) == 0o600
    keep(path, kept("a", "", 0.5), kept("b", "", 2.0))  # an answer is not dropped by the refusal of an earlier one
    assert read_remembered(path) == [kept("a", "one")]
    assert "one" not in repr(kept("a", "one"))


@pytest.mark.skipif(os.name != "posix", reason="only there have files such permissions")
def test_a_file_of_secrets_that_others_can_read_or_place_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, elsewhere = tmp_path / "calls.db", tmp_path / "elsewhere"
    keep(path, kept("token", SECRET))
    remembered_at(path).chmod(0o640)
    with service_with(SQLiteStore(path)) as service:
        assert soon(lambda: "can be read by other users: run `chmod 600` on it" in caplog.text)
        assert not service.calls.is_answered("token")
    remembered_at(path).rename(elsewhere)
    remembered_at(path).symlink_to(elsewhere)
    with pytest.raises(JournalError, match="is a symbolic link"):
        read_remembered(path)
    with pytest.raises(JournalError, match="is a symbolic link"):
        keep(path, kept("token", "another"))
    assert SECRET in elsewhere.read_text()


def test_two_processes_do_not_write_the_file_of_secrets_at_one_time(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    keep(path, kept("a", "one"))

    async def main() -> None:
        lock = open_plain(remembered_at(path).with_name("remembered-lock"), os.O_RDWR)
        assert try_lock(lock)
        async with anyio.create_task_group() as group:
            group.start_soon(write_remembered, path, [kept("b", "two")])
            await anyio.sleep(0.02)
            assert read_remembered(path) == [kept("a", "one")]
            os.close(lock)

    anyio.run(main)
    assert read_remembered(path) == [kept("a", "one"), kept("b", "two")]
