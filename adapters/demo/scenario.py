"""The demonstration's story: a launch that fails in seven ways, is killed with SIGKILL, and arrives whole.

Nothing is simulated: the server is real, the launch is ``recovery run`` in a child process, and every claim at the end
is checked against the files, the server's own log and the facts that the child reported.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from adapters.demo.server import FileServer, Hosted, Refuse, Request, Reset, Stall, free_port
from adapters.launch import Outcome
from adapters.plans import load_plan
from adapters.screen import launch_table
from adapters.view import LaunchView, Line
from events.codec import decode
from events.errors import CodecError
from events.facts import CircuitClosed, CircuitOpened, Fact

MB = 1_000_000
KILL_AFTER = 9.0
HOST_RETURNS_AFTER = 18.0
GIVE_UP_AFTER = 90.0

PLAN = """\
# Written by `recovery demo`.
root = "models"

[retry]
max_retries = 8
initial_delay = 0.4
max_delay = 3.0

[circuit]
break_duration = 2.0

[download]
parallel = 8
stall_timeout = 2.0
"""


class Claim(msgspec.Struct, frozen=True):
    """One thing that the demonstration says, whether it was true, and what shows it."""

    claim: str
    is_true: bool
    shown_by: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    claims: tuple[Claim, ...]
    operations: tuple[Line, ...]
    circuits: tuple[str, ...]
    bytes_served: int
    bytes_saved: int
    seconds: float

    @property
    def is_proven(self) -> bool:
        """Whether every claim was true."""
        return all(claim.is_true for claim in self.claims)


class Stage:
    """The servers, the plan and what the launch must end in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirror_port = free_port()
        self.hosted = {
            "checkpoint": Hosted(_bytes("checkpoint", 26 * MB), rate=1.5 * MB),
            "lora": Hosted(_bytes("lora", 8 * MB), faults=[Reset(0.4), Reset(0.4)], rate=4 * MB),
            "vae": Hosted(_bytes("vae", 6 * MB), faults=[Refuse(503, retry_after=2)], rate=4 * MB),
            "upscaler": Hosted(_bytes("upscaler", 6 * MB), faults=[Refuse(429, 2), Refuse(429, 1)], rate=4 * MB),
            "clip": Hosted(_bytes("clip", 8 * MB), faults=[Stall(0.5, seconds=8.0)], rate=4 * MB),
        }
        self.mirrored = {
            name: Hosted(_bytes(name, 4 * MB), rate=4 * MB) for name in ("mirror-a", "mirror-b", "mirror-c")
        }
        self.server = FileServer({f"/{name}.bin": hosted for name, hosted in self.hosted.items()})
        self.mirror: FileServer | None = None
        self.plan = folder / "launch.toml"
        self.plan.write_text(self._plan_text(), encoding="utf-8")

    def _plan_text(self) -> str:
        mirror = f"http://127.0.0.1:{self.mirror_port}"
        steps = [_download(name, self.server.url, hosted.sha256) for name, hosted in self.hosted.items()]
        steps += [_download(name, mirror, hosted.sha256) for name, hosted in self.mirrored.items()]
        steps.append(_download("missing", self.server.url, None))
        check = "import pathlib, sys; sys.exit(any(pathlib.Path('files').glob('*.part*')))"
        command = msgspec.json.encode([sys.executable, "-c", check]).decode()
        needs = msgspec.json.encode([*self.hosted, *self.mirrored]).decode()
        steps.append(f'[[operation]]\nname = "check"\nkind = "command"\nrun = {command}\nneeds = {needs}\n')
        return "\n".join((PLAN, *steps))

    @contextmanager
    def open(self) -> Iterator[None]:
        """Serve. The mirror's host is down at first."""
        with ExitStack() as stack:
            stack.enter_context(self.server)

            def rise() -> None:
                files = {f"/{name}.bin": hosted for name, hosted in self.mirrored.items()}
                self.mirror = stack.enter_context(FileServer(files, self.mirror_port))

            timer = threading.Timer(HOST_RETURNS_AFTER, rise)
            timer.start()
            try:
                yield
            finally:
                timer.cancel()
                timer.join()

    @property
    def requests(self) -> list[Request]:
        """Every request that arrived, at either host."""
        return [*self.server.requests, *(self.mirror.requests if self.mirror else ())]

    def path(self, name: str) -> Path:
        """Where a file must arrive."""
        return self.folder / "models" / "files" / f"{name}.bin"

    def whole(self) -> list[str]:
        """The names of the files that are there under their final name; each must have the right content."""
        return [name for name in (*self.hosted, *self.mirrored) if self.path(name).exists()]

    def broken(self) -> list[str]:
        """Those of them that are not what was served."""
        known = {**self.hosted, **self.mirrored}
        return [
            name
            for name in self.whole()
            if hashlib.sha256(self.path(name).read_bytes()).hexdigest() != known[name].sha256
        ]


class Child:
    """``recovery run --json`` in a process of its own; *hear* gets its facts."""

    def __init__(self, plan: Path, hear: Callable[[Fact], object]) -> None:
        command = [sys.executable, "-m", "adapters.cli", "run", str(plan), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.outcomes: dict[str, Outcome] | None = None
        self.noise: list[bytes] = []
        self._hear = hear
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._hear(decode(line))
            except CodecError:
                if line.startswith(b'{"outcomes"'):
                    self.outcomes = msgspec.json.decode(line, type=dict[str, dict[str, Outcome]])["outcomes"]
                else:
                    self.noise.append(line)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: it cannot tidy up."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def wait(self, timeout: float) -> int | None:
        """Its exit code, or ``None`` if it did not end within *timeout* seconds (then it is killed)."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None
        self._reader.join()
        return code

    def complaints(self) -> str:
        """What it wrote to stderr, and what it printed that is no fact."""
        assert self._process.stderr is not None
        return b"".join((self._process.stderr.read(), *self.noise)).decode("utf-8", "replace")


def run_demo(keep: Path | None, *, console: Console | None) -> Report:
    """Play the story in *keep* (or a temporary folder), on *console* if there is one, and judge it."""
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recovery-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        return _play(Stage(folder), console)


def _play(stage: Stage, console: Console | None) -> Report:
    began = time.monotonic()
    view = LaunchView(load_plan(stage.plan).steps)
    facts: list[Fact] = []

    def hear(fact: Fact) -> None:
        facts.append(fact)
        view.feed(fact)

    def say(text: str) -> None:
        if console is not None:
            console.print(Text(f"{time.monotonic() - began:5.1f} s  {text}", style="bold"))

    show = nullcontext() if console is None else Live(
        get_renderable=lambda: launch_table(view, time.monotonic()), console=console, refresh_per_second=8
    )  # fmt: skip
    with stage.open(), show:
        say(f"a launch of {len(view.lines)} operations begins; one host is down, one file never existed")
        first = Child(stage.plan, hear)
        _wait_for(lambda: time.monotonic() - began >= KILL_AFTER)
        first.kill()
        broken_at_kill, requests_at_kill = stage.broken(), len(stage.server.requests)
        attempts_at_kill = {name: line.attempts for name, line in view.lines.items()}
        say(
            f"kill -9 {first.pid}: {len(stage.whole())} files are whole, {len(broken_at_kill)} bear their name too early"
        )
        second = Child(stage.plan, hear)
        say(f"started again as process {second.pid}")
        code = second.wait(GIVE_UP_AFTER)
        view.end(second.outcomes or {})
        if code not in (0, 1) or second.noise:
            say(f"the launch ended with {code}: {second.complaints()}")
    after_kill = stage.server.requests[requests_at_kill:]
    claims = tuple(_judge(stage, view, facts, broken_at_kill, after_kill, attempts_at_kill))
    report = Report(
        claims=claims,
        operations=tuple(view.lines.values()),
        circuits=tuple(view.circuits),
        bytes_served=sum(request.sent for request in stage.requests),
        bytes_saved=_saved(stage.requests),
        seconds=round(time.monotonic() - began, 1),
    )
    if console is not None:
        _print_report(report, console)
    return report


def _judge(
    stage: Stage,
    view: LaunchView,
    facts: list[Fact],
    broken_at_kill: list[str],
    after_kill: list[Request],
    attempts_at_kill: dict[str, int],
) -> Iterator[Claim]:
    expected = [*stage.hosted, *stage.mirrored]
    whole, broken = stage.whole(), stage.broken()
    arrived = sum(stage.path(name).stat().st_size for name in whole)
    yield Claim(
        "every file arrived whole",
        whole == expected and not broken,
        f"sha256 of {len(whole) - len(broken)} of {len(expected)} files, {arrived / MB:.0f} MB",
    )
    parts = list((stage.folder / "models").rglob("*.part*"))
    yield Claim(
        "no partial file ever bore a final name",
        not broken_at_kill and not parts,
        f"{len(broken_at_kill)} at the kill; {len(parts)} partial files left at the end",
    )
    saved_after = _saved(after_kill)
    yield Claim(
        "downloads carried on where they stopped",
        saved_after > 0,
        f"{_saved(stage.requests) / MB:.1f} MB not sent again, {saved_after / MB:.1f} MB of them after the kill",
    )
    resumed = [name for name, line in view.lines.items() if line.resumed]
    went_on = [name for name in resumed if 1 < attempts_at_kill[name] <= view.lines[name].attempts]
    yield Claim("attempts were counted on across the kill", bool(went_on), f"{', '.join(went_on) or 'none'}")
    opened = {fact.key for fact in facts if isinstance(fact, CircuitOpened)}
    closed = {fact.key for fact in facts if isinstance(fact, CircuitClosed)}
    mirror = f"127.0.0.1:{stage.mirror_port}"
    yield Claim(
        "the circuit of the host that was down opened, and closed when it was back",
        opened == {mirror} and closed == {mirror},
        f"{len([fact for fact in facts if isinstance(fact, CircuitOpened)])} times open, then closed: {mirror}",
    )
    asked = [request for request in stage.requests if request.path == "/missing.bin"]
    yield Claim(
        "the file that never existed failed at once",
        len(asked) == 1 and view.lines["missing"].state == "failed" and view.lines["missing"].attempts == 1,
        f"{len(asked)} request in both runs",
    )
    recovered = [name for name, line in view.lines.items() if line.failures and line.state == "done"]
    others = [name for name, line in view.lines.items() if line.state != "done" and name != "missing"]
    yield Claim(
        "everything else recovered by itself",
        not others and set(recovered) >= {"lora", "vae", "upscaler", "clip", *stage.mirrored},
        f"{len(recovered)} operations failed and recovered; not done: {', '.join(others) or 'none'}",
    )


def _saved(requests: list[Request]) -> int:
    """Bytes that need not be sent because a request began where an earlier one stopped."""
    return sum(request.start for request in requests if request.status == 206)


def _print_report(report: Report, console: Console) -> None:
    tries = Table(
        title="How often each operation was tried, and why", title_justify="left", expand=True, box=None, pad_edge=False
    )
    tries.add_column("operation", no_wrap=True)
    tries.add_column("tries", justify="right", no_wrap=True)
    tries.add_column("why it was tried again, or failed")
    for line in report.operations:
        tries.add_row(line.name, str(line.attempts), Text(_why(line), style="dim"))
    console.print()
    console.print(tries)
    console.print()
    for circuit in report.circuits:
        console.print(Text(f"circuit  {circuit}", style="magenta"))
    console.print()
    for claim in report.claims:
        console.print(
            Text("✓ " if claim.is_true else "✗ ", style="green" if claim.is_true else "bold red"),
            Text(claim.claim),
            Text(f" ({claim.shown_by})", style="dim"),
            sep="",
        )
    served, saved = report.bytes_served / MB, report.bytes_saved / MB
    console.print(f"\n{served:.1f} MB served, {saved:.1f} MB saved by resuming, {report.seconds} s")


def _why(line: Line) -> str:
    reasons = [failure.split(":")[0] + ": " + _short(failure) for failure in line.failures]
    counted = [
        f"{reason}{f' (x{reasons.count(reason)})' if reasons.count(reason) > 1 else ''}"
        for reason in dict.fromkeys(reasons)
    ]
    if line.resumed:
        counted.append(f"its process was killed, carried on{'' if line.resumed == 1 else f' {line.resumed} times'}")
    return "; ".join(counted)


def _short(failure: str) -> str:
    """The exception and the first words of its message."""
    text = failure.partition(": ")[2]
    return text if len(text) <= 70 else f"{text[:67]}..."


def _wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


def _bytes(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)  # reproducible content, not a secret


def _download(name: str, base: str, sha256: str | None) -> str:
    known = "" if sha256 is None else f'sha256 = "{sha256}"\n'
    return (
        f'[[operation]]\nname = "{name}"\nkind = "download"\nurl = "{base}/{name}.bin"\n'
        f'destination = "files/{name}.bin"\n{known}'
    )
