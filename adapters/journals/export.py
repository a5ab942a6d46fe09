"""A bundle about a journal for a bug report: a zip file with what failed and why, and without secrets."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio
import msgspec

from adapters.journals.history import PastEvent, read_events
from adapters.journals.report import report_of
from adapters.journals.status import CallStatus, JournalStatus, read_status
from adapters.journals.verify import verify_journal
from adapters.journals.watch import FAILED
from adapters.journals.why import why
from adapters.launcher.plan import load_plan
from adapters.processes.lines import Lines
from adapters.sqlite.remembered import read_remembered
from recovery.explain import counted
from recovery.journal.errors import DamagedJournalError
from recovery.literals import LEAST_FOLDED, LEAST_LITERAL
from recovery.redact import brief, hide, redact

MOST_CALLS = 200
"""Calls whose story is in the bundle, the latest."""
MOST_EVENTS = 1000
"""Events of a call, the latest."""
MOST_LOGS = 20
"""Logs of commands, the latest, whose ends are in the bundle."""
MOST_OF_A_LOG = 32_768
"""Bytes of a log; as many before them are read, so that a secret that begins there is recognized."""
NOT_SHOWN = ("arguments", "data", "recorded")
"""Members of events that hold what the program was given and has made: they stay out."""
SECRET_NAME = re.compile(r"token|secret|passw|credential|auth|api_?key|_key$|_pat$|cookie", re.IGNORECASE)
"""Names of environment variables whose values are hidden."""
PACKAGES = (
    "launcher-recovery", "aiosqlite", "anyio", "blinker", "click", "ddsketch", "httpx2", "msgspec", "opentelemetry-api",
    "packaging", "prometheus-client", "psutil", "rich", "starlette", "trio", "uvicorn",
)  # fmt: skip


class Member(msgspec.Struct, frozen=True):
    """A file of the bundle.

    Args:
        name: Its name in the zip file.
        bytes: How large it is, not compressed.
        about: What is in it.
    """

    name: str
    bytes: int
    about: str


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written.

    Args:
        path: The zip file, which only this user can read.
        bytes: Its size.
        members: What is in it.
    """

    path: str
    bytes: int
    members: tuple[Member, ...]


def export_journal(source: Path, target: Path) -> Exported:
    """Write what a bug report needs of a journal to the zip file *target*.

    Every text is redacted: known shapes of secrets, remembered answers, tokens of the plan, values of environment
    variables with a telling name. Arguments, checkpoints and results are left out, and the home folder is "~". Of a
    damaged journal the bundle has its check, the plan and the logs.

    Args:
        source: A journal's file, or the launch plan whose journal is read.
        target: Where to write; the file must not exist.

    Raises:
        FileNotFoundError, JournalError, PlanError: There is no journal, or it is another program's.
        FileExistsError: *target* exists.
        OSError: It cannot be written; nothing of it is left.
    """
    plan = load_plan(source) if source.suffix == ".toml" else None
    journal = source if plan is None else plan.journal
    _hide_secrets(journal)
    for secret in () if plan is None else plan.tokens.values():
        with suppress(Exception):  # a token that is not there cannot leak
            hide(secret.reveal())
    status: JournalStatus | None = None
    with suppress(DamagedJournalError):  # verify.json says what is damaged
        status = anyio.run(partial(read_status, journal))
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    members: list[Member] = []
    try:
        with os.fdopen(file, "wb") as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, about, text in _contents(source, journal, status):
                bundle.writestr(name, text)
                members.append(Member(name, len(text.encode()), about))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Exported(path=str(target), bytes=target.stat().st_size, members=tuple(members))


def _contents(source: Path, journal: Path, status: JournalStatus | None) -> Iterator[tuple[str, str, str]]:
    """The files of the bundle: name, what it is about, text."""
    yield "versions.json", "the versions of Python, the packages and the system", _json(_versions())
    with suppress(DamagedJournalError):
        if status is not None:
            yield from _of_calls(source, journal, status)
            yield "report.json", "success rate, time lost, slowest recoveries", _json(anyio.run(report_of, journal))
    yield "verify.json", "the check of the journal's files", _json(anyio.run(verify_journal, journal))
    if source != journal:
        yield "plan.toml", "the launch plan", _text(source.read_bytes(), Lines())
    names: Counter[str] = Counter()
    folder = journal.parent / "logs"
    for path in _logs(folder):
        name = brief(f"logs/{path.relative_to(folder).as_posix()}").replace("\\", "_")
        names[name] += 1
        with suppress(OSError):  # it was removed, or is another user's
            text = _tail(path)
            yield name if names[name] == 1 else f"{name}-{names[name]}", "the end of what a command printed", text


def _of_calls(source: Path, journal: Path, status: JournalStatus) -> Iterator[tuple[str, str, str]]:
    calls = sorted((one for one in status.calls if not one.is_over or one.state in FAILED), key=lambda one: -one.seen)
    told = calls[:MOST_CALLS]
    events = {one.call: anyio.run(read_events, journal, one.call)[-MOST_EVENTS:] for one in told}
    yield "status.json", f"the state of {counted(len(status.calls), 'call')}, circuits and incidents", _json(status)
    yield "why.json", f"why {counted(len(told), 'call')} failed or wait", _json(_stories(told, events, status, source))
    lines = [_json(_event(one.call, past)) for one in told for past in events[one.call]]
    about = "the events of these calls, one a line, without arguments, checkpoints and results"
    yield "events.jsonl", about, "".join(lines)


def _stories(
    calls: Sequence[CallStatus], events: dict[str, list[PastEvent]], status: JournalStatus, source: Path
) -> dict[str, object]:
    now = time.time()
    return {"calls": [why(one, status, events[one.call], source=source, now=now) for one in calls]}


def _event(call: str, past: PastEvent) -> dict[str, object]:
    fields = {} if past.event is None else msgspec.to_builtins(msgspec.structs.asdict(past.event), enc_hook=_left_out)
    kept = {name: value for name, value in fields.items() if name not in NOT_SHOWN and value not in ("", None)}
    return {"call": call, "time": past.at, "pid": past.pid, "event": past.kind, **kept}


def _left_out(value: object) -> str:
    return f"a {type(value).__name__}"  # raw JSON of the program


def _versions() -> dict[str, object]:
    packages = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "python": sys.version,
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": packages,
    }


def _logs(folder: Path) -> list[Path]:
    """The latest logs of commands."""
    found: list[tuple[float, Path]] = []
    for path in folder.rglob("*.log"):
        with suppress(OSError):  # it was removed
            if path.is_file() and not path.is_symlink():
                found.append((-path.stat().st_mtime, path))
    return [path for _, path in sorted(found)[:MOST_LOGS]]


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 2 * MOST_OF_A_LOG, 0))
        data = file.read(2 * MOST_OF_A_LOG)
    lines = Lines()
    if size > len(data):
        lines.skip()
    lines.feed(data[:-MOST_OF_A_LOG])
    return _text(data[-MOST_OF_A_LOG:], lines)


def _text(data: bytes, lines: Lines) -> str:
    """A file of other programs as a terminal shows it, without secrets; *lines* knows what is before *data*."""
    text = "".join(f"{line}\n" for line in (*lines.feed(data), *lines.finish()))
    return _without_home(redact(text))  # a secret may have several lines


def _json(value: object) -> str:
    builtins = msgspec.to_builtins(value, enc_hook=_left_out)
    return f"{msgspec.json.encode(clean(builtins)).decode()}\n"


def clean(value: object) -> object:
    """*value*, plain data, with every text in it redacted, in one line and without the name of the home folder."""
    match value:
        case str():
            return _without_home(brief(value))
        case dict():
            return {clean(name): clean(one) for name, one in value.items()}
        case list() | tuple():
            return [clean(one) for one in value]
    return value


def _without_home(text: str) -> str:
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _hide_secrets(journal: Path) -> None:
    """Hide what is known to be secret without its shape: remembered answers, variables with a telling name."""
    remembered: list[str] = []
    with suppress(Exception):  # a file that must not be believed is not shown either
        remembered = [one.value for one in read_remembered(journal) if len(one.value) >= LEAST_LITERAL]
    variables = [value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= LEAST_FOLDED]
    hide(*remembered, *variables)
