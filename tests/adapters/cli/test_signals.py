"""Signals to ``recovery run``: its processes end, and what was under way goes on in the next run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.demo.server import FileServer, Hosted
from events.operation_events import OperationCancelled, OperationResumed
from tests.adapters.cli.test_command import CONTENT, Ended, command, download, recovery, write_plan
from tests.adapters.processes.test_command import HELPER, is_alive, pids_in
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few

SLOW = f"[ -e go ] || {{ {HELPER}; echo $$ >> leaders; sleep 40; }}; echo done >> done"


@contextmanager
def running(*arguments: object, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "adapters", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def stopped(process: subprocess.Popen[str], number: int) -> Ended:
    process.send_signal(number)
    out, errors = process.communicate(timeout=20)
    assert "Traceback" not in out + errors
    return Ended(process.returncode, out, errors)


@pytest.mark.parametrize("number", few([signal.SIGTERM, signal.SIGHUP], signal.SIGHUP))
@pytest.mark.slow
def test_a_terminated_launch_ends_its_processes_and_goes_on_the_next_time(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "models"
    with FileServer({"/a": Hosted(CONTENT, rate=len(CONTENT) / 20)}) as server:
        plan = write_plan(tmp_path, command("c", "sh", "-c", SLOW), download("a", server.url))
        for times in (1, 2):  # the second one has resumed what the first one left
            with running("run", plan, "--json") as process:
                leaders = pids_in(folder / "leaders", times)
                eventually(lambda: (folder / "a.part").exists())
                ended = stopped(process, number)
            assert ended.code == 128 + number
            assert (
                ended.errors
                == f"recovery: ended by {signal.Signals(number).name}; run it again, and it goes on from here\n"
            )
            assert "OperationCancelled" not in ended.out
            assert [pid for pid in leaders + pids_in(folder / "helpers") if is_alive(pid)] == []
        assert '"running"' not in recovery("status", plan, "--json").out
        server.files["/a"].rate = None
        (folder / "go").touch()
        last = recovery("run", plan, "--json")
    assert (last.code, last.outcomes) == (0, {"c": "done", "a": "done"})
    assert {event.operation for event in last.events if isinstance(event, OperationResumed)} == {
        "launch", "command", "download",
    }  # fmt: skip
    assert not [event for event in last.events if isinstance(event, OperationCancelled)]
    assert (folder / "a").read_bytes() == CONTENT
    assert (folder / "done").read_text() == "done\n"


@pytest.mark.slow
def test_many_terminations_are_no_crashes(tmp_path: Path) -> None:
    plan, folder = write_plan(tmp_path, command("c", "sh", "-c", SLOW)), tmp_path / "models"
    for times in range(1, 6):
        with running("run", plan) as process:
            pids_in(folder / "leaders", times)
            assert stopped(process, signal.SIGTERM).code == 143
    (folder / "go").touch()
    assert recovery("run", plan).code == 0


@pytest.mark.slow
def test_a_launch_under_nohup_survives_its_terminal(tmp_path: Path) -> None:
    plan, folder = write_plan(tmp_path, command("c", "sh", "-c", SLOW)), tmp_path / "models"
    with running("run", plan, prefix=("nohup",)) as process:
        pids_in(folder / "leaders")
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert stopped(process, signal.SIGTERM).code == 143


def test_an_interrupted_launch_ends_its_processes_too(tmp_path: Path) -> None:
    plan, folder = write_plan(tmp_path, command("c", "sh", "-c", SLOW)), tmp_path / "models"
    with running("run", plan) as process:
        pids = pids_in(folder / "leaders") + pids_in(folder / "helpers")
        assert stopped(process, signal.SIGINT).code == 130
    eventually(lambda: not any(map(is_alive, pids)))  # SIGKILL is on its way to them


@pytest.mark.slow
def test_what_asyncio_has_to_give_up_after_a_second_interrupt_is_not_printed(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("c", "true"))
    program = (
        "import atexit, logging; from adapters.cli.command import main; "
        "atexit.register(logging.getLogger('asyncio').error, 'Unknown child process'); main()"
    )
    command_line = [sys.executable, "-c", program, "run", str(plan)]
    ended = subprocess.run(command_line, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_an_interrupt_while_the_command_is_imported_is_said_in_one_line() -> None:
    program = """
import sys, adapters.__main__
class Interrupt:
    def find_spec(self, name, *_):
        if name == "adapters.cli.command": raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
adapters.__main__.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=False)
    assert (ended.returncode, ended.stderr) == (130, "recovery: interrupted\n")


@pytest.mark.slow
def test_a_terminated_demonstration_ends_its_launch(tmp_path: Path) -> None:
    with running("demo", "--keep", tmp_path / "demo") as process:
        eventually(lambda: list(tmp_path.glob("demo/models/files/*.part")))
        assert stopped(process, signal.SIGTERM).code == 143
    parts = {path: path.stat().st_size for path in tmp_path.glob("demo/models/files/*")}
    time.sleep(0.3)
    assert {path: path.stat().st_size for path in tmp_path.glob("demo/models/files/*")} == parts
