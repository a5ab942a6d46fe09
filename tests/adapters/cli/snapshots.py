"""What the commands print of one journal, at two widths and without a terminal: made again by `make cli`."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import msgspec
from click.testing import CliRunner

from adapters.cli.command import cli
from events.circuit_events import CircuitOpened
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationCancelled,
    OperationQuarantined,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    RetryScheduled,
)
from recovery.journal.history import Run
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence
from tests.adapters.nats.practice_cluster import URL, practice_cluster
from tests.adapters.sqlite import journals

FOLDER = Path(__file__).parent.parent.parent / "golden" / "cli"
"""The files ``NAME.WIDTH.txt``; "pipe" is the width where the output is no terminal."""
WIDTHS = ("80", "120", "pipe")
RUN = Run(id="1a2b3c4d", boot="boot", monotonic=0.0, wall=1_772_366_400.0, pid=4_194_000)
"""A process that is dead: it began at noon of 1 March 2026, in UTC."""
COMMANDS = {
    "status": ("status", "launch.toml"),
    "status-failed": ("status", "launch.toml", "--failed"),
    "why": ("why", "launch.toml", "sdxl"),
    "why-left": ("why", "launch.toml", "plugin"),
    "why-all": ("why", "launch.toml"),
    "history": ("history", "launch.toml", "sdxl"),
    "history-of-all": ("history", "launch.toml"),
    "incidents": ("incidents", "launch.toml"),
    "report": ("report", "launch.toml"),
    "verify": ("verify", "launch.toml"),
    "check": ("check", "launch.toml"),
    "status-cluster": ("status", "--cluster", URL),
    "why-cluster": ("why", "--cluster", URL, "render/waiting"),
    "why-all-cluster": ("why", "--cluster", URL),
}
"""The commands by the names of their files."""
PLAN = """
[[operation]]
kind = "download"
name = "sdxl"
url = "https://models.example.org/sdxl.safetensors"
destination = "models/sdxl.safetensors"

[[operation]]
kind = "download"
name = "vae"
url = "https://models.example.org/vae.safetensors"
destination = "models/vae.safetensors"

[[operation]]
kind = "git"
name = "plugin"
url = "https://git.example.org/plugin.git"
destination = "plugins/plugin"
"""


def events() -> Iterator[Event]:
    """A morning of a launcher: a disk is full, a process is killed, a host is down, and a download recovers."""
    host, url = "models.example.org:443", "https://models.example.org/"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/sdxl.safetensors")
    yield started("1", "download", "sdxl", f"{url}sdxl.safetensors", at=1.0, key=host)
    yield saved("1", at=61.0, key=host, offset=2_400_000_000, size=6_900_000_000, start=0)
    yield failed("1", "download", ConnectionResetError(errno.ECONNRESET, "reset"), at=62.0, key=host)
    yield RetryScheduled(at=62.0, call=call_id("1"), operation="download", key=host, after=4.0, retry=1)
    yield started("1", "download", "sdxl", f"{url}sdxl.safetensors", at=66.0, key=host, attempt=2)
    yield saved("1", at=95.0, key=host, attempt=2, offset=4_100_000_000, size=6_900_000_000, start=2_400_000_000)
    yield failed("1", "download", full, at=96.0, key=host, attempt=2, retries=1)
    yield GaveUp(at=96.0, call=call_id("1"), operation="download", key=host, attempt=2, reason="permanent",
                 category=Category.ENVIRONMENT)  # fmt: skip
    yield started("2", "download", "vae", f"{url}vae.safetensors", at=2.0, key=host)
    yield failed("2", "download", TimeoutError("timed out"), at=32.0, key=host)
    yield RetryScheduled(at=32.0, call=call_id("2"), operation="download", key=host, after=8.0, retry=1)
    yield started("2", "download", "vae", f"{url}vae.safetensors", at=40.0, key=host, attempt=2)
    yield saved("2", at=50.0, key=host, attempt=2, offset=330_000_000, size=330_000_000, start=120_000_000)
    yield OperationRecovered(at=51.0, call=call_id("2"), operation="download", key=host, attempt=2, elapsed=30.0)
    yield started("3", "clone", "plugin", "https://git.example.org/plugin.git", at=3.0, key="git.example.org:443")
    yield started("4", "packages", "comfy", "requirements.txt", at=4.0)
    yield failed("4", "packages", _pip(), at=20.0)
    yield OperationQuarantined(at=20.0, call=call_id("4"), operation="packages", reason="4 processes died in it")
    yield started("5", "download", "lora", f"{url}lora.safetensors", at=5.0, key=host)
    yield OperationCancelled(at=6.0, call=call_id("5"), operation="download", key=host)
    yield started("6", "command", "warm-up", "python warm_up.py", at=7.0)
    yield OperationSucceeded(at=9.0, call=call_id("6"), operation="command")
    yield CircuitOpened(at=97.0, operation="download", key="mirror.example.org:443", after=60.0, failures=5,
                        category=Category.UNREACHABLE, cause="the host cannot be reached")  # fmt: skip


def call_id(number: str) -> str:
    return f"{RUN.id}-{number}"


def started(number: str, operation: str, *arguments: str, at: float, key: str = "", attempt: int = 1) -> Event:
    given = msgspec.Raw(msgspec.json.encode([arguments, {}]))
    return OperationStarted(
        at=at, call=call_id(number), operation=operation, key=key, attempt=attempt, again=attempt > 1, arguments=given
    )


def saved(number: str, *, at: float, key: str, attempt: int = 1, **transfer: int) -> Event:
    data = msgspec.Raw(msgspec.json.encode(transfer))
    return CheckpointSaved(at=at, call=call_id(number), operation="download", key=key, attempt=attempt, data=data)


def failed(
    number: str,
    operation: str,
    error: Exception | Evidence,
    *,
    at: float,
    key: str = "",
    attempt: int = 1,
    retries: int = 0,
) -> Event:
    meaning = classify(error)
    return FailureClassified(
        at=at,
        call=call_id(number),
        operation=operation,
        key=key,
        attempt=attempt,
        retries=retries,
        category=meaning.category,
        rule=meaning.rule,
        evidence=error if isinstance(error, Evidence) else extract_evidence(error),
    )


def _pip() -> Evidence:
    said = "ERROR: Cannot install torch==2.1 and xformers because these package versions have conflicting dependencies."
    return Evidence(type="adapters.processes.errors.CommandError", message="pip ended with 1", exit_code=1, stderr=said)


@contextmanager
def journal_of_a_launch() -> Iterator[None]:
    """Work in a folder with the plan ``launch.toml``, its journal, and the practice cluster; local times are UTC."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), zone("UTC"), practice_cluster():
        Path("launch.toml").write_text(PLAN, encoding="utf-8")
        in_order = sorted(events(), key=lambda event: event.at)
        journals.write(Path(".recovery", "launch.db"), journals.rows_of(in_order, run=RUN.id), run=RUN)
        yield


@contextmanager
def zone(name: str) -> Iterator[None]:
    """Let local times be those of a time zone."""
    before = os.environ.get("TZ")
    try:
        _set_zone(name)
        yield
    finally:
        _set_zone(before)


def _set_zone(name: str | None) -> None:
    os.environ.pop("TZ", None)
    if name is not None:
        os.environ["TZ"] = name
    time.tzset()


def printed(command: tuple[str, ...], width: str) -> str:
    """What *command* prints at that *width*: columns of a terminal, or "pipe"."""
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": width}
    plain: dict[str, str | None] = {"FORCE_COLOR": None, "COLUMNS": None}
    said = CliRunner().invoke(cli, command, env=plain if width == "pipe" else terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.output)
    return text if width == "pipe" else "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def written(name: str, width: str) -> Path:
    """The file with what the command of that *name* prints at that *width*."""
    return FOLDER / f"{name}.{width}.txt"


def write_all() -> None:
    """Write the files again."""
    FOLDER.mkdir(exist_ok=True)
    with journal_of_a_launch():
        for name, command in COMMANDS.items():
            for width in WIDTHS:
                written(name, width).write_text(printed(command, width), encoding="utf-8")


if __name__ == "__main__":
    write_all()
