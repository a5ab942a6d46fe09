"""``recovery answer``: answers reach the calls that wait for them, and a secret is left behind nowhere."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from adapters.cli.command import cli
from adapters.disk import write_whole
from adapters.sqlite.command_files import inbox_of
from adapters.sqlite.command_inbox import send_command
from adapters.sqlite.remembered import remembered_at
from adapters.sqlite.store import SQLiteStore
from adapters.web.journal_source import JournalSource
from events import Condition, Event
from recovery import JournalConfig, Recovery, redact
from recovery.journal.store import Command
from recovery.resume.commands import to_process
from recovery.testing import Script
from tests.recovery.resume.dead_process import Killed, kill
from tests.recovery.waiting.parked import parks

SECRET = "hunter2-swordfish"  # it is planted
QUICK = JournalConfig(command_interval=0.01)


@pytest.fixture(autouse=True)
def own_literals() -> Iterator[None]:
    yield
    redact.unhide()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def service_at(path: Path) -> Recovery:
    return Recovery(store=SQLiteStore(path), journal_config=QUICK)


def soon(is_true: Callable[[], object]) -> bool:
    end = time.monotonic() + 5.0
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def answer(path: Path, *arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(cli, ["answer", str(path), *arguments], input=given)


def ask(service: Recovery, *question: Any) -> None:
    """Ask it, and return when the journal has it."""
    assert not service.calls.question(*question).is_met()
    assert service.journal is not None
    service.journal.receipt().wait()


def written_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@contextmanager
def asked(service: Recovery, *question: Condition) -> Iterator[list[BaseException]]:
    """A call waits for *question* while the body runs, which must answer it; what the call raises."""
    errors: list[BaseException] = []
    fetch = service.recoverable("fetch", policy=parks(*question))(Script(ConnectionError("down")))

    def run() -> None:
        try:
            fetch()
        except ConnectionError as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert soon(service.calls.questions)
    assert service.journal is not None
    service.journal.receipt().wait()
    yield errors
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_secret_goes_to_every_process_of_the_journal(path: Path) -> None:
    with service_at(path) as asks, service_at(path) as other:
        assert other.journal is not None
        other.journal.pending()
        with asked(asks, asks.calls.question("token:hub", "secret")):
            done = answer(path, "token:hub", given=f"{SECRET}\n")
        said = "the question 'token:hub' is answered: 2 processes have it, in their memory alone\n"
        assert (done.exit_code, done.output) == (0, said)
        assert (asks.calls.answered("token:hub"), other.calls.answered("token:hub")) == (SECRET, SECRET)
    assert SECRET.encode() not in written_in(path.parent)


def test_a_secret_goes_to_the_process_that_asks_and_is_left_behind_nowhere(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[Event] = []
    with service_at(path) as service:
        service.bus.subscribe(Event, events.append)
        with asked(service, service.calls.question("token:hub", "secret")):
            done = answer(path, "token:hub", given=f"{SECRET}\n")
        assert service.calls.answered("token:hub") == SECRET
        assert (done.exit_code, done.output) == (
            0,
            "the question 'token:hub' is answered: the process that asks has it, in its memory alone\n",
        )
        assert list(inbox_of(path).iterdir()) == []
        assert service.journal is not None
        service.journal.receipt().wait()
        assert b"QuestionAnswered" in written_in(path.parent)
        assert SECRET.encode() not in written_in(path.parent)
    assert SECRET.encode() not in written_in(path.parent)
    assert SECRET not in repr(events) + caplog.text
    again = answer(path, "token:hub", given=f"{SECRET}\n")
    assert (again.exit_code, again.output) == (
        1,
        "recovery: cannot answer the question 'token:hub': no process that runs asks it, and a secret is not written: "
        "add --remember, or --from env:NAME or file:PATH\n",
    )


def test_a_secret_that_was_given_is_asked_for_no_more_once_all_is_over(path: Path) -> None:
    with service_at(path) as service:
        with asked(service, service.calls.question("token:hub", "secret")):
            assert answer(path).output.startswith("token:hub: secret\n")
            service.calls.answer("token:hub", SECRET)
        assert service.journal is not None
        service.journal.receipt().wait()
        assert answer(path).output == "no question is open\n"
    assert answer(path).output == "no question is open\n"
    assert JournalSource(path).read().questions == ()


def test_a_secret_is_asked_for_again_where_its_process_died_and_left_the_call(path: Path) -> None:
    with service_at(path) as service:

        def body() -> None:
            if service.calls.answered("token:hub") is None:
                raise ConnectionError("down")
            kill(service)

        policy = parks(service.calls.question("token:hub", "secret"))
        fetch = service.recoverable("fetch", policy=policy, resumable=True)(body)
        with ThreadPoolExecutor() as threads:
            killed = threads.submit(fetch)
            assert soon(service.calls.questions)
            service.calls.answer("token:hub", SECRET)
            assert isinstance(killed.exception(), Killed)
    assert answer(path).output.startswith("token:hub: secret; no process that runs asks it\n")


def test_a_secret_is_on_no_disk_while_no_process_takes_it(path: Path) -> None:
    command = Command("answer", to_process("7f3a"), changes={"question": "token"})
    inbox = inbox_of(path)
    with ThreadPoolExecutor() as threads:
        sent = threads.submit(send_command, path, command, timeout=0.1, secret=SECRET)
        assert soon(lambda: any(inbox.glob("*.json")))
        [pipe] = inbox.glob("*.secret")
        assert (stat.S_ISFIFO(pipe.stat().st_mode), stat.S_IMODE(pipe.stat().st_mode)) == (True, 0o600)
        assert SECRET.encode() not in written_in(path.parent)
        assert sent.result() is None
    assert list(inbox.iterdir()) == []


def test_a_secret_is_read_from_no_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with service_at(path) as service:
        ask(service, "token", "secret")
        command = Command("answer", to_process(service.bus.run), changes={"question": "token"})
        inbox_of(path).mkdir()
        for name in ("1.json", "2.secret", "2.json"):  # without a pipe, and with a file
            data = msgspec.json.encode(command) if name.endswith("json") else SECRET.encode()
            write_whole(inbox_of(path) / name, data)
        assert soon(lambda: not any(inbox_of(path).glob("*.json")))
        assert b"no answer has arrived" in inbox_of(path).joinpath("1.answer").read_bytes()
        assert soon(lambda: "2.secret is no pipe of this user" in caplog.text)
        assert not service.calls.is_answered("token")


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_secret_is_remembered_where_only_its_user_can_read_it(path: Path, *, is_alive: bool) -> None:
    with service_at(path) as service:
        ask(service, "token", "secret")
        if not is_alive:
            service.close()
        done = answer(path, "token", "--remember", given=f"{SECRET}\n")
        assert done.exit_code == 0, done.output
        assert not is_alive or soon(lambda: service.calls.answered("token") == SECRET)
    assert stat.S_IMODE(remembered_at(path).stat().st_mode) == 0o600
    with service_at(path) as service:
        assert soon(lambda: service.calls.answered("token") == SECRET)
        service.calls.reopen("token", "the token was refused: 401")
    assert SECRET.encode() not in written_in(path.parent)
    with service_at(path) as service:
        service.calls.question("token", "secret").is_met()
    listed = answer(path)
    assert listed.stdout == "token: secret; no process that runs asks it; the token was refused: 401\n"
    assert listed.stderr == f"answer one with: recovery answer {path} token\n"


def test_a_secret_is_answered_by_reference(path: Path, tmp_path: Path) -> None:
    place = tmp_path / "token"
    with service_at(path) as service:
        ask(service, "token", "secret")
        assert answer(path, "token", "--from", f"file:{place}").exit_code == 0
        assert soon(lambda: f"file:{place}".encode() in written_in(tmp_path))
        assert service.calls.answered("token") is None
        place.write_text(SECRET)
        assert soon(lambda: service.calls.answered("token") == SECRET)
        place.unlink()
    assert SECRET.encode() not in written_in(tmp_path)


@pytest.mark.parametrize("is_alive", [True, False])
def test_what_is_no_secret_is_written_to_the_journal(path: Path, *, is_alive: bool) -> None:
    with service_at(path) as service:
        ask(service, "gpu", "choice", ["0", "1"])
        if not is_alive:
            service.close()
        done = answer(path, "gpu", "1", "--json")
        then = "a process that runs takes it within a second" if is_alive else "the next run takes it"
        assert msgspec.json.decode(done.output) == {
            "format": "answer/1",
            "question": "gpu",
            "kind": "choice",
            "is_done": True,
            "said": then,
        }
        assert not is_alive or soon(lambda: service.calls.answered("gpu") == "1")
    with service_at(path) as service:
        assert soon(lambda: service.calls.answered("gpu") == "1")
    assert answer(path).output == "no question is open\n"


def test_no_ends_the_calls_that_wait(path: Path) -> None:
    with service_at(path) as service, asked(service, service.calls.question("licence")) as errors:
        assert answer(path, "licence", given="no\n").exit_code == 0
        assert soon(lambda: errors)
    [error] = errors
    assert "the answer to 'licence' is no" in "".join(error.__notes__)


WRONG = [
    (["token", SECRET], "", 2, "a secret is not taken from the command line"),
    (["token"], "", 2, "no answer was given: the standard input is empty"),
    (["token"], "\n", 2, "the answer to 'token' is empty"),
    (["token", "--from", SECRET], "", 2, "a reference to a secret is env:NAME or file:PATH"),
    (["token", "--from", "env:A", "--remember"], "", 2, "give one of them"),
    (["gpu", "2"], "", 2, "the answer to 'gpu' must be one of '0', '1'"),
    (["licence", "perhaps"], "", 2, "the answer to 'licence' must be yes or no"),
    (["licence", "yes", "--remember"], "", 2, "--from and --remember are for secrets"),
    (["licens", "yes"], "", 1, "do you mean the question 'licence'?"),
]


@pytest.mark.parametrize(("arguments", "given", "code", "said"), WRONG, ids=lambda value: str(value)[:20])
def test_what_does_not_answer_a_question_is_refused(
    path: Path, arguments: list[str], given: str, code: int, said: str
) -> None:
    with service_at(path) as service:
        service.calls.question("token", "secret").is_met()
        service.calls.question("gpu", "choice", ["0", "1"]).is_met()
        service.calls.question("licence").is_met()
    done = answer(path, *arguments, given=given)
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert SECRET not in done.output
    assert b"QuestionAnswered" not in written_in(path.parent)


def test_without_a_journal_nothing_is_made(path: Path) -> None:
    assert answer(path, "token").exit_code == 2
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no terminals")
def test_a_terminal_does_not_show_a_secret(path: Path) -> None:
    with service_at(path) as service:
        service.calls.question("token", "secret", text="Make a token.").is_met()
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "adapters", "answer", str(path), "token", "--remember"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"(not shown): " not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, f"{SECRET}\n".encode())
        while b"the next run takes it" not in shown:
            shown += os.read(ours, 1024)
        assert process.wait(10.0) == 0
    os.close(ours)
    assert b"Make a token." in shown
    assert SECRET.encode() not in shown
    assert SECRET.encode() in remembered_at(path).read_bytes()
