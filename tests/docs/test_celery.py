"""What docs/how-to/celery.md says of a real worker, beyond what its session shows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.timeout(90)]

SEND = """
import json, sys
from worker_tasks import app
name, *arguments = json.loads(sys.argv[1])
result = app.tasks[f"worker_tasks.{name}"].delay(*arguments)
print(result.id, flush=True)
sys.stdin.read(1)
try:
    result.get(timeout=20)
except Exception as error:
    print(result.state, type(error).__name__)
else:
    print(result.state, result.result)
"""


class Worker:
    """A worker of Celery in *folder*, which logs to worker.log."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.folder = folder
        paths = os.pathsep.join(map(str, (ROOT, Path(__file__).parent)))
        self.env = {**os.environ, "PYTHONPATH": paths, **env}
        command = [sys.executable, "-m", "celery", "-A", "worker_tasks", "worker", "-l", "INFO", "-f", "worker.log"]
        self.process = subprocess.Popen(
            [*command, *options], cwd=folder, env=self.env, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def log(self) -> str:
        log = self.folder / "worker.log"
        return log.read_text() if log.exists() else ""

    def notes(self) -> list[str]:
        notes = self.folder / "notes"
        return notes.read_text().splitlines() if notes.exists() else []

    @contextmanager
    def sent(self, *task: Any) -> Iterator[tuple[str, Callable[[], str]]]:
        """Send a task; its id, and a function that waits for its state and result."""
        sender = subprocess.Popen(
            [sys.executable, "-c", SEND, json.dumps(task)],
            cwd=self.folder, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert sender.stdout is not None
        try:
            yield sender.stdout.readline().strip(), lambda: sender.communicate("\n")[0].strip()
        finally:
            sender.kill()
            if not sender.stdout.closed:
                sender.communicate()

    def state_of(self, *task: Any) -> str:
        with self.sent(*task) as (_, wait):
            return wait()

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20.0
        while not condition():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def end(self) -> None:
        """Have it end in good order, which takes Celery some seconds."""
        self.process.terminate()
        self.process.wait(30.0)

    def kill(self) -> None:
        """Kill it with all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def working(folder: Path, *options: str, **env: str) -> Iterator[Worker]:
    worker = Worker(folder, *options, **env)
    try:
        yield worker
    finally:
        worker.kill()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with working(tmp_path_factory.mktemp("worker"), "-c", "1") as worker:
        yield worker


@pytest.mark.parametrize(
    ("task", "bodies", "state"),
    [
        (("steered", "retry"), ["retry", "retry"], "SUCCESS retry"),
        (("steered", "reject"), ["reject"], "FAILURE Reject"),
        (("used_up",), ["used up", "used up"], "FAILURE MaxRetriesExceededError"),
        (("slow",), ["slow"], "FAILURE SoftTimeLimitExceeded"),
        (("waits",), ["waits"], "FAILURE SoftTimeLimitExceeded"),
    ],
)
def test_an_exception_of_celery_passes_at_once(
    worker: Worker, task: tuple[str, ...], bodies: list[str], state: str
) -> None:
    assert worker.state_of(*task) == state
    assert [one for one in worker.notes() if one == bodies[0]] == bodies


def test_an_ignored_task_runs_once(worker: Worker) -> None:
    with worker.sent("steered", "ignore") as (task, _):
        worker.until(lambda: f"[{task}] ignored" in worker.log())
    assert worker.notes().count("ignore") == 1


def test_a_task_that_is_terminated_ends_its_wait(worker: Worker) -> None:
    with worker.sent("waits_long") as (task, wait):
        worker.until(lambda: "waits long" in worker.notes())
        time.sleep(0.2)
        revoke = f"from worker_tasks import app; app.control.revoke('{task}', terminate=True)"
        subprocess.run([sys.executable, "-c", revoke], cwd=worker.folder, env=worker.env, check=True)
        worker.until(lambda: "cancelled while it waited" in worker.log())
        assert wait() == "REVOKED TaskRevokedError"


def test_a_warm_shutdown_waits_for_a_call_that_waits(tmp_path: Path) -> None:
    with working(tmp_path, "-c", "1") as worker, worker.sent("waits_a_second") as (_, wait):
        worker.until(worker.notes)
        worker.end()
        assert wait() == "SUCCESS done"


def test_a_killed_task_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with working(tmp_path, "-c", "1") as worker:
        assert worker.state_of("dies", "one", 0.1) == "SUCCESS one"
        assert worker.notes() == [f"one {number}" for number in range(5)]


def test_another_process_waits_for_the_resumed_call_and_gets_its_result(tmp_path: Path) -> None:
    with working(tmp_path, "-c", "2") as worker:
        assert worker.state_of("dies", "one", 2.0) == "SUCCESS one"
        assert worker.notes() == [f"one {number}" for number in range(5)]


def test_what_a_worker_leaves_that_is_killed_whole_is_resumed_by_the_next(tmp_path: Path) -> None:
    with working(tmp_path, "-c", "1") as worker, worker.sent("dies", "one", 60.0):
        worker.until(lambda: "one 3" in worker.notes())
        time.sleep(0.5)  # until the checkpoint is written
    with working(tmp_path, "-c", "1") as following:
        following.until(lambda: "one 4" in following.notes())
    assert following.notes().count("one 4") == 1


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_threads_and_solo_work_in_one_process(tmp_path: Path, pool: str) -> None:
    with working(tmp_path, "-P", pool, "-c", "2", IN_ONE_PROCESS="1") as worker:
        assert worker.state_of("waits_a_second") == "SUCCESS done"
        worker.end()
    assert "recovered with attempt 2" in worker.log()
    assert "unjournalled" not in worker.log()


def test_beat_sends_tasks_whose_bodies_are_recoverable(tmp_path: Path) -> None:
    with working(tmp_path, "-B", "-c", "1") as worker:
        worker.until(lambda: len(worker.notes()) > 1)
