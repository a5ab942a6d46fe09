from __future__ import annotations

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import warnings
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from adapters.cli.command import cli, main
from adapters.demo.server import Answer, FileServer, Hosted, Reset, free_port
from adapters.journals.status import JournalStatus
from adapters.sqlite.store import SQLiteStore
from events.circuit_events import CircuitOpened
from events.codec import decode
from events.event import Event
from events.operation_events import GaveUp
from recovery.journal.history import Run
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.corruptions import execute
from tests.adapters.sqlite.test_kill import child, eventually
from tests.slow import few
from tests.torture.fork_server import ForkServer

CONTENT = b"0123456789abcdef" * 20_000
TOUCH = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('x')"


class Ended(msgspec.Struct):
    code: int
    out: str
    errors: str

    @property
    def events(self) -> list[Event]:
        """The events of ``run --json``: every line but the last."""
        return [decode(line) for line in self.out.splitlines()[:-1]]

    @property
    def outcomes(self) -> dict[str, str]:
        last = msgspec.json.decode(self.out.splitlines()[-1])
        assert last["format"] == "outcomes/1"
        return {name: outcome["state"] for name, outcome in last["outcomes"].items()}

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def recovery(*arguments: object) -> Ended:
    """The real command, in a process of its own; leaks that the garbage collector finds are in its errors.

    Where Linux allows it, the process is a fork of one that has imported the command, which is ten times as fast.
    """
    if not hasattr(os, "pidfd_open"):
        return started(*arguments)
    with TemporaryDirectory() as folder:
        out, errors = Path(folder, "out"), Path(folder, "errors")
        child = fork_server().fork(be_command, [*map(str, arguments)], dict(os.environ), out=out, errors=errors)
        code = child.wait(30.0)
        if code is None:
            child.kill()
        return of_process(code, out.read_text(), errors.read_text())


def started(*arguments: object) -> Ended:
    """The same, started as a shell starts it."""
    command = [sys.executable, "-W", "default", "-m", "adapters", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return of_process(done.returncode, done.stdout, done.stderr)


def of_process(code: int | None, out: str, errors: str) -> Ended:
    assert code is not None, "it did not end"
    assert "Traceback" not in errors + out
    return Ended(code, out, errors)


def be_command(arguments: list[str], environment: dict[str, str]) -> None:
    """Be the command, in a fork."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["recovery", *arguments]
    warnings.simplefilter("default")
    main()


@cache
def fork_server() -> ForkServer:
    """The process that the commands are forks of; it ends with this one."""
    server = ForkServer().__enter__()
    atexit.register(server.__exit__)
    server.ask({"import": __name__})
    return server


def write_plan(folder: Path, *operations: str) -> Path:
    path = folder / "launch.toml"
    head = 'root = "models"\n[retry]\nmax_retries = 2\ninitial_delay = 0.01\n'
    path.write_text("\n".join((head, *operations)), encoding="utf-8")
    (folder / "models").mkdir(exist_ok=True)
    return path


def download(name: str, base: str, **more: Any) -> str:
    return operation(name=name, kind="download", url=f"{base}/{name}", destination=name, **more)


def command(name: str, *run: str, **more: Any) -> str:
    return operation(name=name, kind="command", run=run, **more)


def touch(name: str, **more: Any) -> str:
    """A command that appends to the file *name*."""
    return command(name, sys.executable, "-S", "-c", TOUCH, name, **more)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return msgspec.json.encode(value).decode()


def operation(**values: Any) -> str:
    lines = (f"{key} = {toml(value)}\n" for key, value in values.items())
    return "[[operation]]\n" + "".join(lines)


# run


def test_a_launch_of_downloads_and_commands_is_done(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(CONTENT, faults=[Reset(0.5)]), "/b": Hosted(b"b")}) as server:
        plan = write_plan(
            tmp_path, download("a", server.url), download("b", server.url), touch("c", needs=["a", "b"], cwd=".")
        )
        ended = recovery("run", plan)
    assert (ended.code, ended.errors) == (0, "")
    assert (tmp_path / "models" / "a").read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["a", "b", "c"]
    assert [row.split()[0] for row in ended.out.splitlines() if "✓ done" in row] == ["a", "b", "c"]
    assert "attempt 1 failed, retry 1 " in ended.out


def test_a_failed_operation_skips_only_those_that_need_it(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(CONTENT)}) as server:
        plan = write_plan(
            tmp_path,
            download("a", server.url),
            download("missing", server.url),
            touch("after-a", needs=["a"]),
            touch("after-missing", needs=["missing"]),
            touch("after-that", needs=["after-missing"]),
        )
        ended = recovery("run", plan, "--json")
    assert ended.code == 1
    assert ended.outcomes == {
        "a": "done",
        "missing": "failed",
        "after-a": "done",
        "after-missing": "skipped",
        "after-that": "skipped",
    }
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["a", "after-a"]
    assert [request.path for request in server.requests].count("/missing") == 1


@pytest.mark.parametrize(
    ("run", "retries", "output"),
    [
        ([sys.executable, "-S", "-c", "import sys; print('no luck'); sys.exit(3)"], 2, "no luck\n" * 3),
        (["no-such-program-anywhere"], 0, ""),
    ],
    ids=["it fails", "it is not there"],
)
def test_a_failed_command_is_tried_again_only_where_that_helps(
    run: list[str], retries: int, output: str, tmp_path: Path
) -> None:
    ended = recovery("run", write_plan(tmp_path, command("c", *run)), "--json")
    assert (ended.code, ended.outcomes, ended.names().count("RetryScheduled")) == (1, {"c": "failed"}, retries)
    assert (tmp_path / ".recovery" / "logs" / "c.log").read_text() == output


def test_a_rule_of_the_plan_says_what_an_exit_code_means(tmp_path: Path) -> None:
    rule = '[[rule]]\nexit_codes = [3]\ncategory = "permanent"\nwhy = "it is the wrong version"\n'
    failing = command("c", sys.executable, "-S", "-c", "import sys; sys.exit(3)")
    ended = recovery("run", write_plan(tmp_path, rule, failing), "--json")
    assert (ended.outcomes, ended.names().count("RetryScheduled")) == ({"c": "failed"}, 0)
    assert "it is the wrong version" in ended.out


def test_json_is_one_event_a_line_and_the_outcomes_last(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(CONTENT, faults=[Answer(503)])}) as server:
        ended = recovery("run", write_plan(tmp_path, download("a", server.url)), "--json")
    assert (ended.code, ended.errors, ended.outcomes) == (0, "", {"a": "done"})
    about_a = [type(event).__name__ for event in ended.events if event.operation == "download"]
    assert about_a == [
        "OperationStarted",
        "FailureClassified",
        "RetryScheduled",
        "OperationStarted",
        "CheckpointSaved",
        "OperationRecovered",
        "OperationSucceeded",
    ]


def test_no_secret_of_a_command_or_its_output_is_printed_or_journalled(tmp_path: Path) -> None:
    says = "import sys; sys.exit('fatal: hf_' + 'abcdefghij' * 3)"
    url = "https://user:hunter22@example.org/x"
    plan = write_plan(tmp_path, command("c", sys.executable, "-S", "-c", says, url, "-u", "me:hunter22"))
    journal = tmp_path / "calls.db"
    as_json = recovery("run", plan, "--journal", journal, "--json")
    for_people = recovery("run", plan, "--journal", tmp_path / "other.db")
    written, outcomes = str(journal.read_bytes()), as_json.out.splitlines()[-1]
    shown = for_people.out + for_people.errors + recovery("status", journal).out + outcomes
    assert (as_json.code, for_people.code) == (1, 1)
    assert "fatal: ***" in as_json.out
    assert "fatal: ***" in written
    assert "c: the command failed (exit code 1) (transient): fatal: ***; attempt 1 failed" in for_people.out
    assert "fatal: ***" in outcomes
    assert "abcdefghijabcdefghij" not in as_json.out + as_json.errors + written + shown
    assert "hunter22" not in as_json.out + as_json.errors + shown


def test_a_command_says_no_secret_of_the_name_that_it_was_given(tmp_path: Path) -> None:
    journal = tmp_path / "calls.db"
    recovery("run", write_plan(tmp_path, command("c", "true")), "--journal", journal)
    url = f"https://user:{'hunter22' * 20}@example.org/"
    for refused in (recovery("give-up", journal, url), recovery("give-up", journal, url, "--json")):
        assert refused.code == 1
        assert "hunter22" not in refused.out + refused.errors


def test_a_host_that_stays_down_opens_its_circuit_and_no_other(tmp_path: Path) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    with FileServer({"/a": Hosted(CONTENT)}) as server:
        plan = write_plan(tmp_path, download("a", server.url), download("b", down), download("c", down))
        circuit = "[wait]\nhost = 0\n[circuit]\nfailure_threshold = 2\nbreak_duration = 0.05\n"
        plan.write_text(plan.read_text().replace("\n\n", f"\n{circuit}\n", 1))
        ended = recovery("run", plan, "--json")
    assert (ended.code, ended.outcomes) == (1, {"a": "done", "b": "failed", "c": "failed"})
    opened = {event.key for event in ended.events if isinstance(event, CircuitOpened)}
    assert opened == {down.removeprefix("http://")}
    assert max(event.attempt for event in ended.events if isinstance(event, GaveUp) and event.key in opened) <= 3


def test_a_finished_plan_runs_again_and_fetches_nothing_twice(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(CONTENT)}) as server:
        plan = write_plan(tmp_path, download("a", server.url), touch("c", needs=["a"]))
        assert recovery("run", plan).code == 0
        assert recovery("run", plan).code == 0
    assert len(server.requests) == 1
    assert (tmp_path / "models" / "c").read_text() == "xx"


def test_the_journal_and_the_root_need_not_be_there_yet(tmp_path: Path) -> None:
    plan, elsewhere = write_plan(tmp_path, touch("made")), tmp_path / "elsewhere" / "calls.db"
    (tmp_path / "models").rmdir()
    assert recovery("run", plan, "--journal", elsewhere).code == 0
    assert (tmp_path / "models" / "made").exists()
    assert elsewhere.is_file()
    assert not (tmp_path / ".recovery").exists()


def test_an_interrupted_launch_ends_and_says_so(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("c", sys.executable, "-S", "-c", "import time; time.sleep(30)"))
    with subprocess.Popen(
        [sys.executable, "-m", "adapters", "run", str(plan), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert any("command" in line for line in process.stdout)
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "OperationCancelled" not in out
    assert errors == "recovery: ended by Ctrl-C; run it again, and it goes on from here\n"


def test_a_pipe_gets_a_line_when_an_operation_begins_and_ends(tmp_path: Path) -> None:
    with FileServer({"/a": Hosted(CONTENT, faults=[Answer(503)])}) as server:
        ended = recovery("run", write_plan(tmp_path, download("a", server.url), touch("c", needs=["a"])))
    lines = [line for line in ended.out.splitlines() if line.startswith(("a: ", "c: "))]
    assert [lines[0], *lines[-2:]] == ["a: begins", "c: begins", "c: done"]
    assert "a: attempt 2 begins" in lines
    assert "a: done, 320.0 kB, after 1 failure" in lines


@pytest.mark.slow
def test_signs_that_the_output_cannot_encode_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    ended = started("run", write_plan(tmp_path, touch("c")))
    assert (ended.code, ended.errors) == (0, "")
    assert "+ done" in ended.out


@pytest.mark.parametrize("line", few(["run {}", "run {} --json", "--help"], "run {}"))
@pytest.mark.slow
def test_an_output_without_room_is_said_in_one_line(tmp_path: Path, line: str) -> None:
    plan = write_plan(tmp_path, touch("c"))
    command = [sys.executable, "-m", "adapters", *line.format(plan).split()]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert "no room for what is printed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "--help" in line or recovery("status", plan).code == 0


@pytest.mark.slow
def test_a_plan_that_was_edited_after_a_crash_is_said(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("c", sys.executable, "-S", "-c", "import time; time.sleep(5)"))
    run = ["-m", "adapters", "run", str(plan), "--json"]
    with child(tmp_path / "out", *run):
        eventually(lambda: '"name":"c"' in recovery("status", plan, "--json").out)
    ended = recovery("run", write_plan(tmp_path, touch("other")))
    assert ended.code == 0
    assert f"warning: {plan}" in ended.errors


# A journal that cannot be used


def test_two_launches_of_one_plan_write_a_file_each(tmp_path: Path) -> None:
    async def run_beside_a_writer() -> Ended:
        async with AsyncExitStack() as stack:
            store = SQLiteStore(tmp_path / ".recovery" / "launch.db")
            stack.push_async_callback(store.close)
            await store.open(Run(id="other", boot="", monotonic=0.0, wall=0.0, pid=1))
            return await asyncio.to_thread(recovery, "run", write_plan(tmp_path, touch("c")))

    ended = asyncio.run(run_beside_a_writer())
    assert (ended.code, ended.errors) == (0, "")
    assert len(list((tmp_path / ".recovery" / "launch.db.d").glob("*.db"))) == 1


def test_a_damaged_journal_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(b"no database at all" * 1000)
    ended = recovery("run", write_plan(tmp_path, touch("c")), "--journal", path)
    [kept] = tmp_path.glob("calls.db.damaged-*")
    assert ended.code == 0
    assert "is kept as" in " ".join(ended.errors.split())
    assert kept.read_bytes() == b"no database at all" * 1000


def test_a_foreign_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    execute(path, "CREATE TABLE notes (text)")
    before = path.read_bytes()
    ended = recovery("run", write_plan(tmp_path, touch("c")), "--journal", path)
    assert (ended.code, str(path) in ended.errors, path.read_bytes()) == (0, True, before)


# Wrong usage


@pytest.mark.parametrize(
    "spoil",
    [lambda text: text.replace('destination = "', 'destination = "../'), lambda text: text + "= ="],
    ids=["outside the root", "not TOML"],
)
def test_nothing_is_started_of_a_wrong_plan(tmp_path: Path, spoil: Any) -> None:
    with FileServer({"/a": Hosted(CONTENT)}) as server:
        plan = write_plan(tmp_path, download("a", server.url), touch("c"))
        plan.write_text(spoil(plan.read_text()))
        ended = recovery("run", plan)
    assert (ended.code, ended.out, server.requests) == (2, "", [])
    assert ended.errors.startswith(f"recovery: {plan}: ")
    assert len(ended.errors.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["launch.toml", "models"]


@pytest.mark.parametrize("arguments", [("run", "nothing.toml"), ("run",), ("dance",), ("demo", "--keep", __file__)])
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    ended = recovery(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors


@pytest.mark.parametrize("folder", ["", ".", "/"])
@pytest.mark.parametrize("line", ["status {}", "run {}", "run nothing.toml --journal {}", "give-up {} call"])
def test_a_folder_is_no_plan_and_no_journal(line: str, folder: str) -> None:
    result = CliRunner().invoke(cli, [folder if word == "{}" else word for word in line.split()])
    assert result.exit_code == 2
    assert "is a folder" in result.stderr


@pytest.mark.parametrize("path", ["x" * 300, "d/" * 2100 + "x", "loop", "file/x", "/dev/null/x"])
@pytest.mark.parametrize(
    "line", ["status {}", "run {}", "run plan.toml --journal {}", "retry {} call", "demo --keep {}"]
)
def test_a_path_that_the_system_does_not_take_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    write_plan(tmp_path, touch("c")).rename("plan.toml")
    result = CliRunner().invoke(cli, [path if word == "{}" else word for word in line.split()])
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert path[:60] in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", [":memory:", "file:calls.db"])
def test_a_name_that_sqlite_takes_for_no_file_is_no_journal(tmp_path: Path, name: str) -> None:
    result = CliRunner().invoke(cli, ["run", str(write_plan(tmp_path, touch("c"))), "--journal", name])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert name in result.stderr


@pytest.mark.parametrize("name", ["pipe", "file"])
def test_the_demonstration_wants_a_folder(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    result = CliRunner().invoke(cli, ["demo", "--keep", str(tmp_path / name)])
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert name in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), ["run", "status", "demo", "Exit codes"]),
        (("run", "-h"), ["PLAN", "--journal", "--json"]),
        (("--version",), ["0.1.0"]),
    ],
)
def test_help_says_what_there_is(arguments: tuple[str, ...], words: list[str]) -> None:
    ended = recovery(*arguments)
    assert (ended.code, [word for word in words if word not in ended.out]) == (0, [])


@pytest.mark.parametrize("variable", ["ALL_PROXY=socks5://localhost:1", "https_proxy=foo://h", "SSL_CERT_FILE=/gone"])
def test_a_variable_of_the_environment_matters_to_downloads_only(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    assert recovery("run", write_plan(tmp_path, touch("c"))).code == 0
    ended = recovery("run", write_plan(tmp_path, touch("d"), download("a", "https://example.org")))
    assert (ended.code, ended.out, len(ended.errors.splitlines())) == (2, "", 1)
    assert ended.errors.startswith(f"recovery: {name}: ")
    assert not (tmp_path / "models" / "d").exists()  # nothing was started


def test_the_demonstration_does_not_run_among_the_files_of_another(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = recovery("demo", "--keep", tmp_path)
    assert (ended.code, len(ended.errors.splitlines())) == (2, 1)
    assert f"{tmp_path} is not empty" in ended.errors


# status


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan of a launch that is over: one operation done, one failed, one skipped."""
    bad, after = command("bad", "no-such-program-anywhere"), touch("after-bad", needs=["bad"])
    plan = write_plan(tmp_path_factory.mktemp("launched"), touch("good"), bad, after)
    assert recovery("run", plan).code == 1
    return plan


def test_status_of_a_plan_and_of_its_journal_are_one_and_change_nothing(launched: Path) -> None:
    journal = launched.parent / ".recovery" / "launch.db"
    before = journals.contents(journal.parent)
    of_plan, of_journal = recovery("status", launched, "--json"), recovery("status", journal, "--json")
    assert (of_plan.code, of_plan.errors, of_plan.out) == (0, "", of_journal.out)
    for_people = recovery("status", launched)
    assert "command good" in for_people.out
    assert "no process is writing it" in for_people.out
    assert journals.contents(journal.parent) == before


def test_status_in_json_says_how_every_call_ended(launched: Path) -> None:
    ended = recovery("status", launched, "--json")
    found = msgspec.json.decode(ended.out, type=JournalStatus)
    assert ended.code == 0
    assert {(call.operation, call.name, call.state) for call in found.calls} == {
        ("launch", None, "failed"),
        ("command", "good", "succeeded"),
        ("command", "bad", "gave up"),
    }


def test_status_says_how_a_failed_launch_ended(launched: Path) -> None:
    text = " ".join(recovery("status", launched).out.split())
    assert "done: 1 of 3, 1 failed, 1 skipped failed: bad skipped: after-bad, which needs bad" in text
    assert f"`recovery run {launched}` begins a new launch: what is there is kept, and commands without" in text


@pytest.mark.parametrize("name", ["launch.toml", "launch.db"])
def test_status_of_what_never_ran_names_the_journal_and_makes_none(tmp_path: Path, name: str) -> None:
    write_plan(tmp_path, touch("c"))
    ended = recovery("status", tmp_path / name)
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors.startswith(f"recovery: there is no journal at {tmp_path}")
    assert not (tmp_path / ".recovery").exists()
