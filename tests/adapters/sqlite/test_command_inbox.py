"""Orders to a running process, through files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapters import cli as command_line
from adapters.cli import cli
from adapters.sqlite.command_inbox import MOST_BYTES, inbox_of, submit_command, take_commands
from adapters.sqlite.store import SQLiteStore
from events.operation_events import CallSteered, RetryScheduled
from recovery.journal.store import Command
from recovery.service import Recovery
from recovery.testing import Script
from tests.adapters.sqlite.test_kill import child, eventually
from tests.recorded_events import events_of
from tests.recovery.resume.test_resumer import Killed

ORDER = Command("retry", "r-1", "now")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def ours(call: str) -> bool:
    return call == "r-1"


def test_an_order_is_taken_once_and_in_the_order_given(journal: Path) -> None:
    given = [Command(command, "r-1") for command in ("pause", "unpause", "retry", "give up")]  # type: ignore[arg-type]
    for command in given:
        submit_command(journal, command)
    assert take_commands(journal, ours) == given
    assert take_commands(journal, ours) == []


def test_an_order_for_another_process_is_left_for_it(journal: Path) -> None:
    path = submit_command(journal, Command("retry", "other"))
    assert take_commands(journal, ours) == []
    assert path.exists()


@pytest.mark.parametrize("call", ["r-1", "other"])
def test_an_order_that_nobody_took_for_a_minute_is_refused(journal: Path, call: str) -> None:
    path = submit_command(journal, Command("give up", call))
    os.utime(path, (time.time() - 61.0,) * 2)
    submit_command(journal, ORDER)
    assert take_commands(journal, ours) == [ORDER]
    assert [left.name for left in inbox_of(journal).iterdir()] == [path.with_suffix(".refused").name]


def test_of_many_who_want_an_order_one_gets_it(journal: Path) -> None:
    for _ in range(50):
        submit_command(journal, ORDER)
    with ThreadPoolExecutor(8) as pool:
        taken = [command for found in pool.map(lambda _: take_commands(journal, ours), range(8)) for command in found]
    assert taken == [ORDER] * 50


def test_there_need_be_no_inbox(journal: Path) -> None:
    assert take_commands(journal, ours) == []
    assert not inbox_of(journal).exists()


def test_the_inbox_is_for_its_owner_alone(journal: Path) -> None:
    mask = os.umask(0)
    try:
        path = submit_command(journal, ORDER)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(inbox_of(journal).stat().st_mode) == 0o700


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def belongs_to_nobody(path: Path) -> None:
    path.write_bytes(b'{"name":"retry","call":"r-1"}')
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize(
    "make",
    [
        *map(text, [b"", b"no JSON", b"[]", b'{"name":"rm -rf","call":"r-1"}', b'{"name":"retry","call":5}']),
        text(b'{"name":"retry","call":"r-1","extra":1}'),
        text(b'{"name":"retry","call":"' + b"x" * MOST_BYTES + b'"}'),
        lambda path: path.mkdir(),
        os.mkfifo,
        lambda path: path.symlink_to("/etc/hostname"),
        pytest.param(belongs_to_nobody, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can chown")),
    ],
)
def test_what_is_no_order_is_refused_kept_and_stops_no_other(
    journal: Path, make: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    inbox_of(journal).mkdir(parents=True)
    make(inbox_of(journal) / "0.json")
    submit_command(journal, ORDER)
    assert take_commands(journal, ours) == [ORDER]
    assert take_commands(journal, ours) == []
    assert os.path.lexists(inbox_of(journal) / "0.refused")
    assert caplog.text.count("0.json is no order") == 1


# In a process


def test_a_waiting_call_goes_on_when_it_is_told_to(journal: Path) -> None:
    with Recovery(store=SQLiteStore(journal), run="r") as service:
        heard, waits = events_of(service, CallSteered), threading.Event()
        service.bus.subscribe(RetryScheduled, lambda _: waits.set())
        script = Script(ConnectionError())
        thread = threading.Thread(target=service.recoverable("fetch", initial_delay=3600.0, max_delay=3600.0)(script))
        thread.start()
        assert waits.wait(10.0)
        submit_command(journal, ORDER)
        thread.join(10.0)
    assert script.calls == 2
    assert [(event.command, event.reason) for event in heard if isinstance(event, CallSteered)] == [
        ("retry now", "now")
    ]


def test_a_quarantined_call_is_resumed_when_it_is_told_to(journal: Path) -> None:
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


WAITING = """
import sys
from adapters.sqlite.store import SQLiteStore
from recovery import Recovery
answers = [ConnectionError(), "done"]
def fetch():
    answer = answers.pop(0)
    if isinstance(answer, Exception): raise answer
    print(answer, flush=True)
with Recovery(store=SQLiteStore(sys.argv[1]), run="r") as service:
    service.recoverable("fetch", initial_delay=3600.0, max_delay=3600.0, jitter="none")(fetch)()
"""


def test_the_command_tells_a_process_what_to_do(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with child(out, "-c", WAITING, journal) as process:
        eventually(journal.exists)
        told = subprocess.run([sys.executable, "-m", "adapters.cli", "tell", str(journal), "r-1", "retry"], check=False)
        assert told.returncode == 0
        assert process.wait(10) == 0
    assert out.read_text() == "done\n"


def test_the_command_says_so_if_nobody_has_the_call(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "TAKEN_WITHIN", 0.01)
    journal.touch()
    result = CliRunner().invoke(cli, ["tell", str(journal), "nobody", "pause"])
    assert result.exit_code == 1
    assert "no process that writes" in result.stderr
    assert "'nobody'" in result.stderr
    assert not list(inbox_of(journal).iterdir())


def test_the_command_needs_a_journal(journal: Path) -> None:
    result = CliRunner().invoke(cli, ["tell", str(journal), "x", "pause"])
    assert result.exit_code == 2
    assert f"no journal at {journal}" in result.stderr
