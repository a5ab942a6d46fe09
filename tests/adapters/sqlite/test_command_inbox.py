"""Commands to a running process, through files."""

from __future__ import annotations

import os
import stat
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adapters.disk import UnsafeFileError
from adapters.memory import MemoryStore
from adapters.sqlite.claims import Claims
from adapters.sqlite.command_files import MOST_BYTES, inbox_of
from adapters.sqlite.command_inbox import CommandInbox, send_command, submit_command
from adapters.sqlite.store import SQLiteStore
from recovery.journal.config import JournalConfig
from recovery.journal.store import Answer, Command, CommandSink, Reply
from recovery.service import Recovery
from tests.adapters.sqlite.test_kill import eventually
from tests.recovery.resume.dead_process import Killed
from tests.slow import few
from tests.until import wait_until

COMMAND = Command("retry", "r-1", "now")
DONE = Answer(is_done=True, said="attempt 2 starts now")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


class Sink:
    """Takes the commands for one call, and answers each."""

    def __init__(self, answer: Answer = DONE) -> None:
        self.taken: list[Command] = []
        self._answer = answer

    def concerns(self, call: str) -> bool:
        return call == "r-1"

    def carry_out(self, command: Command, secret: str = "", reply: Reply = id) -> Answer:
        self.taken.append(command)
        return self._answer

    def after_fork(self) -> None:
        """Nothing to do."""


def taken(journal: Path) -> list[Command]:
    """The commands that one look takes."""
    sink = Sink()
    inbox = CommandInbox(journal, Claims(journal))
    inbox.take(sink, seconds=10.0)
    inbox.close()
    return sink.taken


def test_commands_are_taken_once_and_in_the_order_given(journal: Path) -> None:
    given = [Command(command, "r-1") for command in ("pause", "unpause", "retry", "give up")]  # type: ignore[arg-type]
    for command in given:
        submit_command(journal, command)
    assert taken(journal) == given
    assert taken(journal) == []


def test_a_command_for_another_process_is_left_for_it(journal: Path) -> None:
    path = submit_command(journal, Command("retry", "other"))
    assert taken(journal) == []
    assert path.exists()


@pytest.mark.parametrize("call", ["r-1", "other"])
def test_a_command_is_refused_after_a_minute(journal: Path, call: str) -> None:
    path = submit_command(journal, Command("give up", call))
    os.utime(path, (time.time() - 61.0,) * 2)
    submit_command(journal, COMMAND)
    assert taken(journal) == [COMMAND]
    refused = [left.name for left in inbox_of(journal).iterdir() if left.suffix != ".answer"]
    assert refused == [path.with_suffix(".refused").name]


def test_each_command_goes_to_one_of_many_takers(journal: Path) -> None:
    for _ in range(50):
        submit_command(journal, COMMAND)
    with ThreadPoolExecutor(8) as pool:
        found = [command for found in pool.map(lambda _: taken(journal), range(8)) for command in found]
    assert found == [COMMAND] * 50


def test_there_need_be_no_inbox(journal: Path) -> None:
    assert taken(journal) == []
    assert not inbox_of(journal).exists()


def test_the_inbox_is_for_its_owner_alone(journal: Path) -> None:
    mask = os.umask(0)
    try:
        path = submit_command(journal, COMMAND)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(inbox_of(journal).stat().st_mode) == 0o700


def test_a_command_is_answered_by_the_process_that_took_it(journal: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_command, journal, COMMAND, timeout=10.0)
        eventually(lambda: taken(journal) == [COMMAND])
        assert sent.result() == DONE
    assert list(inbox_of(journal).iterdir()) == []


def test_a_command_that_no_process_takes_is_withdrawn(journal: Path) -> None:
    assert send_command(journal, COMMAND, timeout=0.01) is None
    assert taken(journal) == []


def test_a_process_that_takes_a_command_and_dies_is_named(journal: Path) -> None:
    class Dies(Sink):
        def carry_out(self, command: Command, secret: str = "", reply: Reply = id) -> Answer:
            raise Killed

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_command, journal, COMMAND, timeout=0.3)
        eventually(lambda: any(inbox_of(journal).glob("*.json")))
        with pytest.raises(Killed):
            CommandInbox(journal, Claims(journal)).take(Dies(), seconds=10.0)
        answer = sent.result()
    assert answer == Answer(is_done=False, said="a process took the command, but did not answer in 0.3 s")


def test_an_answer_that_is_not_fetched_is_removed_after_a_minute(journal: Path) -> None:
    path = submit_command(journal, COMMAND).with_suffix(".answer")
    taken(journal)
    assert taken(journal) == []
    assert path.exists()
    os.utime(path, (time.time() - 61.0,) * 2)
    taken(journal)
    assert not path.exists()


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def of_another_user(path: Path) -> None:
    path.write_bytes(b'{"name":"retry","call":"r-1"}')
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    "make",
    [
        *map(
            text,
            [
                b"",
                b"no JSON",
                b'{"name":"retry","call":"\xff"}',
                b"[]",
                b'{"name":"rm -rf","call":"r-1"}',
                b'{"name":"retry","call":5}',
                b"[" * 60_000,
                b'{"name":"retry","call":"r-1","reason":' + b"[" * 60_000,
                "{}".encode("utf-16"),
                b'{"name":"retry","call":"\xed\xa0\x80"}',
            ],
        ),
        text(b'{"name":"retry","call":"r-1","extra":1}'),
        text(b'{"name":"retry","call":"' + b"x" * MOST_BYTES + b'"}'),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/etc/hostname"),
        pytest.param(of_another_user, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can chown")),
    ],
)
def test_a_file_that_is_no_command_is_refused_and_stops_no_other(
    journal: Path, make: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    inbox_of(journal).mkdir(parents=True)
    make(inbox_of(journal) / "0.json")
    submit_command(journal, COMMAND)
    assert taken(journal) == [COMMAND]
    assert taken(journal) == []
    assert os.path.lexists(inbox_of(journal) / "0.refused")
    assert caplog.text.count("0.json is refused") == 1


# Many of them


@pytest.mark.parametrize("call", ["a.b/c%d", "ä" * 10, "x" * 121, "x" * 5000, "..", "r 1\n"])
def test_a_command_names_any_call(journal: Path, call: str) -> None:
    class Any(Sink):
        def concerns(self, asked: str) -> bool:
            return asked == call

    sink = Any()
    submit_command(journal, Command("pause", call))
    submit_command(journal, Command("pause", call + "x"))
    CommandInbox(journal, Claims(journal)).take(sink, seconds=10.0)
    assert sink.taken == [Command("pause", call)]


@pytest.mark.parametrize("others", few([2_000, 10_000, 100_000], 2_000))
def test_d18_a_look_at_very_many_commands_for_others_is_short(others: int, journal: Path) -> None:
    submit_command(journal, Command("retry", "other"))
    for number in range(others):
        inbox_of(journal).joinpath(f"{number}.other.json").touch()
    sink, inbox, slowest = Sink(), CommandInbox(journal, Claims(journal)), 0.0
    submit_command(journal, COMMAND)
    tracemalloc.start()
    for _ in range(1000):
        began = time.thread_time()
        inbox.take(sink)
        slowest = max(slowest, time.thread_time() - began)
        if sink.taken:
            break
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    inbox.close()
    assert sink.taken == [COMMAND]
    assert slowest < 0.1
    assert most < 1_000_000


@pytest.mark.slow
def test_d18_many_commands_for_one_process_are_carried_out_over_many_looks(journal: Path) -> None:
    for _ in range(3000):
        submit_command(journal, COMMAND)
    sink, inbox, looks = Sink(), CommandInbox(journal, Claims(journal)), 0
    while len(sink.taken) < 3000:
        looks += 1
        inbox.take(sink, seconds=0.005)
    inbox.close()
    assert looks > 5


def test_refused_commands_are_removed_after_a_day(journal: Path) -> None:
    refused = submit_command(journal, COMMAND).with_suffix(".refused")
    refused.write_bytes(b"")
    assert taken(journal) == [COMMAND]
    assert refused.exists()
    os.utime(refused, (time.time() - 86401.0,) * 2)
    assert taken(journal) == []
    assert not refused.exists()


# In a process


def test_while_there_are_more_commands_the_next_look_comes_at_once() -> None:
    class Busy(MemoryStore):
        looks = 0

        async def commands(self, sink: CommandSink) -> bool:
            self.looks += 1
            return self.looks < 50

    store = Busy()
    with Recovery(store=store, journal_config=JournalConfig(command_interval=60.0)) as service:
        service.operation("job", durability="journal").start().succeed()  # the first look comes after that
        wait_until(lambda: store.looks == 50)


def test_a_look_says_whether_it_has_found_commands(journal: Path) -> None:
    submit_command(journal, COMMAND)
    sink, inbox = Sink(), CommandInbox(journal, Claims(journal))
    for has_more in (True, False):
        inbox.take(sink, seconds=10.0)
        assert inbox.has_more is has_more


def test_retry_resumes_a_quarantined_call(journal: Path) -> None:
    settings: dict[str, Any] = {"resumable": True, "initial_delay": 0.0}
    for number in range(4):
        with Recovery(store=SQLiteStore(journal), run=f"r{number}") as service:

            def dies() -> None:
                service.journal.seal()  # type: ignore[union-attr]
                raise Killed

            call = service.recoverable("work", **settings)(dies)
            if number:
                assert service.resume().wait(10.0)
            else:
                with pytest.raises(Killed):
                    call()
    with Recovery(store=SQLiteStore(journal)) as service:
        done = threading.Event()
        service.recoverable("work", **settings)(done.set)
        resumption = service.resume()
        assert resumption.wait(10.0)
        assert [record.call for record in resumption.quarantined] == ["r0-1"]
        submit_command(journal, Command("retry", "r0-1"))
        assert done.wait(10.0)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b"[" * 30_000), "cannot be read"),
        (lambda path: path.write_bytes(b'{"is_done":true,"said":"\xff"}'), "cannot be read"),
        (lambda path: path.write_bytes(b" " * (MOST_BYTES + 1)), None),
        (os.mkfifo, None),
        (_link, None),
    ],
    ids=["nested", "not UTF-8", "endless", "pipe", "link"],
)
def test_an_answer_that_was_made_to_harm_is_read_in_bounds(
    journal: Path, make: Callable[[Path], object], says: str | None
) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send_command, journal, COMMAND, timeout=5.0)
        eventually(lambda: inbox_of(journal).exists() and any(inbox_of(journal).glob("*.json")))
        [command] = inbox_of(journal).glob("*.json")
        make(command.with_suffix(".answer"))
        if says is None:
            with pytest.raises(UnsafeFileError):
                sent.result(5.0)
        else:
            answer = sent.result(5.0)
            assert answer is not None
            assert (answer.is_done, says in answer.said) == (False, True)
    assert not list(inbox_of(journal).glob("*.answer"))
