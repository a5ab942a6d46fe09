"""Commands to a running process, through files."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from adapters.cli import cli
from adapters.sqlite.command_inbox import MOST_BYTES, inbox_of, submit_command, take_commands
from adapters.sqlite.store import SQLiteStore
from events.codec import decode
from events.operation_events import CallSteered
from recovery.journal.store import Command
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import child, eventually
from tests.recovery.resume.dead_process import Killed

COMMAND = Command("retry", "r-1", "now")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def ours(call: str) -> bool:
    return call == "r-1"


def test_commands_are_taken_once_and_in_the_order_given(journal: Path) -> None:
    given = [Command(command, "r-1") for command in ("pause", "unpause", "retry", "give up")]  # type: ignore[arg-type]
    for command in given:
        submit_command(journal, command)
    assert take_commands(journal, ours) == given
    assert take_commands(journal, ours) == []


def test_a_command_for_another_process_is_left_for_it(journal: Path) -> None:
    path = submit_command(journal, Command("retry", "other"))
    assert take_commands(journal, ours) == []
    assert path.exists()


@pytest.mark.parametrize("call", ["r-1", "other"])
def test_a_command_is_refused_after_a_minute(journal: Path, call: str) -> None:
    path = submit_command(journal, Command("give up", call))
    os.utime(path, (time.time() - 61.0,) * 2)
    submit_command(journal, COMMAND)
    assert take_commands(journal, ours) == [COMMAND]
    assert [left.name for left in inbox_of(journal).iterdir()] == [path.with_suffix(".refused").name]


def test_each_command_goes_to_one_of_many_takers(journal: Path) -> None:
    for _ in range(50):
        submit_command(journal, COMMAND)
    with ThreadPoolExecutor(8) as pool:
        taken = [command for found in pool.map(lambda _: take_commands(journal, ours), range(8)) for command in found]
    assert taken == [COMMAND] * 50


def test_there_need_be_no_inbox(journal: Path) -> None:
    assert take_commands(journal, ours) == []
    assert not inbox_of(journal).exists()


def test_the_inbox_is_for_its_owner_alone(journal: Path) -> None:
    mask = os.umask(0)
    try:
        path = submit_command(journal, COMMAND)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(inbox_of(journal).stat().st_mode) == 0o700


def text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def of_another_user(path: Path) -> None:
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
        pytest.param(of_another_user, marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can chown")),
    ],
)
def test_a_file_that_is_no_command_is_refused_and_stops_no_other(
    journal: Path, make: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    inbox_of(journal).mkdir(parents=True)
    make(inbox_of(journal) / "0.json")
    submit_command(journal, COMMAND)
    assert take_commands(journal, ours) == [COMMAND]
    assert take_commands(journal, ours) == []
    assert os.path.lexists(inbox_of(journal) / "0.refused")
    assert caplog.text.count("0.json is refused") == 1


# In a process


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


def test_the_command_line_steers_a_call_of_a_running_process(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with child(out, "-c", WAITING, journal) as process:
        eventually(journal.exists)
        for verb in ("pause", "unpause", "retry"):
            steered = CliRunner().invoke(cli, [verb, str(journal), "r-1", "--reason", f"to {verb}"])
            assert (steered.exit_code, steered.output) == (0, "")
        assert process.wait(10) == 0
    assert out.read_text() == "done\n"
    with journals.plain(journal) as connection:
        bodies = [
            body for (body,) in connection.execute("SELECT body FROM events WHERE kind = 'CallSteered' ORDER BY id")
        ]
    steered_by = [event for event in map(decode, bodies) if isinstance(event, CallSteered)]
    assert [(event.command, event.reason) for event in steered_by] == [
        ("pause", "to pause"), ("unpause", "to unpause"), ("retry now", "to retry"),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["retry", "pause", "unpause", "give-up"])
def test_the_command_line_says_if_no_process_has_the_call(journal: Path, verb: str) -> None:
    journal.touch()
    result = CliRunner().invoke(cli, [verb, str(journal), "unknown", "--timeout", "0.01"])
    assert result.exit_code == 1
    assert f"cannot {verb.replace('-', ' ')} call 'unknown': no running process that writes {journal}" in result.stderr
    assert not list(inbox_of(journal).iterdir())


def test_steering_needs_a_journal(journal: Path) -> None:
    result = CliRunner().invoke(cli, ["pause", str(journal), "x"])
    assert result.exit_code == 2
    assert f"no journal at {journal}" in result.stderr
