"""The claims of the demonstration, checked against the files, the servers' logs and the events of the launch."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator

import msgspec

from adapters.demo.plugin import FILES, PROMPTS
from adapters.demo.server import Request
from adapters.demo.stage import ALONE, MB, Stage
from adapters.processes.identity import is_living
from adapters.terminal.view import LaunchView, Line
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from recovery.installation import extra

with extra("launcher"):
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text


class Claim(msgspec.Struct, frozen=True):
    """One claim of the demonstration.

    Args:
        claim: What is claimed.
        is_true: Whether it was true.
        shown_by: The evidence.
    """

    claim: str
    is_true: bool
    shown_by: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the demonstration.

    Args:
        claims: The claims, each with its evidence.
        operations: How the operations of the plan ended.
        bytes_served: What the demonstration's servers sent.
        bytes_saved: What was not sent again, because attempts went on where earlier ones had ended.
        seconds: How long it took.
    """

    claims: tuple[Claim, ...]
    operations: tuple[Line, ...]
    bytes_served: int
    bytes_saved: int
    seconds: float

    @property
    def is_proven(self) -> bool:
        """Whether every claim was true."""
        return all(claim.is_true for claim in self.claims)


class AtKill(msgspec.Struct, frozen=True):
    """The state at a kill.

    Args:
        broken: The files that are not what was served.
        requests: How many requests had arrived.
        attempts: Those of the operations, by name.
        server: The process id of the server, if it had been started.
    """

    broken: list[str]
    requests: int
    attempts: dict[str, int]
    server: list[str]


def judge(stage: Stage, view: LaunchView, events: list[Event], at_kills: list[AtKill]) -> Iterator[Claim]:
    """The claims, each with whether it was true."""
    yield from _of_files(stage, at_kills)
    yield from _of_the_plugin(stage, at_kills[-1])
    yield from _of_the_launch(stage, view, events, at_kills)


def _of_files(stage: Stage, at_kills: list[AtKill]) -> Iterator[Claim]:
    whole, broken = stage.whole(), stage.broken()
    arrived = sum(stage.path(name).stat().st_size for name in whole)
    yield Claim(
        "every file arrived whole",
        whole == [*stage.expected] and not broken,
        f"{len(whole) - len(broken)} of {len(stage.expected)} files are as served, {arrived / MB:.0f} MB",
    )
    parts = list((stage.folder / "models").rglob("*.part*"))
    broken_at_kills = sum(len(one.broken) for one in at_kills)
    yield Claim(
        "no partial file ever bore a final name",
        not broken_at_kills and not parts and not stage.too_short and stage.looks > 0,
        f"{stage.too_short} in {stage.looks} looks, {broken_at_kills} by content at the kills, {len(parts)} left",
    )
    saved, saved_after = saved_bytes(stage.requests), saved_bytes(stage.server.requests[at_kills[0].requests :])
    yield Claim(
        "downloads resumed where they stopped",
        saved_after > 0,
        f"{saved / MB:.1f} MB not sent again, {saved_after / MB:.1f} MB of them after a kill",
    )


def _of_the_plugin(stage: Stage, at_kill: AtKill) -> Iterator[Claim]:
    """What git, pip, the steps and the server have left, as these say themselves."""
    plugin, python = stage.plugin, stage.plugin.parent / "env" / "bin" / "python"
    commit = said("git", "-C", str(plugin), "rev-parse", "HEAD")
    is_whole = said("git", "-C", str(plugin), "fsck", "--strict") is not None and commit == stage.commit
    failed = not stage.git_server.statuses and not stage.git_server.cuts
    yield Claim(
        "the plug-in is a whole clone; its server was down first, and then broke off",
        is_whole and failed,
        f"commit {(commit or 'none')[:7]}, by git fsck; {stage.git_server.requests} requests",
    )
    checked, refused = said(str(python), "-m", "pip", "check"), stage.count("/refusing/")
    yield Claim(
        "its packages fit each other, though one index refused and pip was killed",
        checked is not None and refused > 0,
        f"pip check: {(checked or 'it fails').rstrip('.').lower()}; refused {refused} times",
    )
    settings = {name: (plugin / name).read_text() for name in ("settings.ini", "settings.old")}
    yield Claim(
        "the steps replaced its settings, and kept the old ones",
        settings == {"settings.ini": FILES["settings.new"], "settings.old": FILES["settings.ini"]},
        ", ".join(f"{name}: {text.strip()}" for name, text in settings.items()),
    )
    starts, prompts = stage.lines("starts.log"), stage.lines("prompts.log")
    yield Claim(
        "the server crashed, was started again, outlived a kill, and ended with the launch",
        len(starts) == 2 and at_kill.server == starts[-1:] and not is_living(int(starts[-1])),
        f"{len(starts)} starts; process {starts[-1]} before and after the kill",
    )
    yield Claim(
        "each prompt was done once",
        prompts == [str(number) for number in range(PROMPTS)],
        f"{len(prompts)} prompts, {len({*prompts})} different ones",
    )


def _of_the_launch(stage: Stage, view: LaunchView, events: list[Event], at_kills: list[AtKill]) -> Iterator[Claim]:
    lines, before = view.lines.items(), at_kills[0].attempts
    continued = [name for name, line in lines if line.resumed and 1 < before[name] <= line.attempts]
    yield Claim("attempts went on counting across the kills", bool(continued), ", ".join(continued) or "none")
    opened = [event.key for event in events if isinstance(event, CircuitOpened)]
    closed = {event.key for event in events if isinstance(event, CircuitClosed)}
    mirror = f"127.0.0.1:{stage.mirror_port}"
    yield Claim(
        "the circuit of the host that was down opened, and closed when it was back",
        set(opened) == closed == {mirror},
        f"{len(opened)} times open, then closed: {mirror}",
    )
    asked = [request for request in stage.requests if request.path == "/missing.bin"]
    yield Claim(
        "the file that never existed failed at once",
        len(asked) == 1 and view.lines["missing"].state == "failed" and view.lines["missing"].attempts == 1,
        f"{len(asked)} request in all three runs",
    )
    recovered = {name for name, line in lines if line.failures and line.state == "done"}
    others = [name for name, line in lines if line.state != "done" and name != "missing"]
    yield Claim(
        "everything else recovered by itself",
        not others
        and recovered >= {"lora", "vae", "upscaler", "clip", "plugin", "packages", "server", *stage.mirrored},
        f"{len(recovered)} operations failed and recovered; not done: {', '.join(others) or 'none'}",
    )


def saved_bytes(requests: list[Request]) -> int:
    """Bytes that were not sent again because a request began where an earlier one stopped."""
    return sum(request.start for request in requests if request.status == 206)


def said(*words: str) -> str | None:
    """What that command prints; None if it fails."""
    done = subprocess.run(words, env=ALONE, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def print_report(report: Report, console: Console) -> None:
    """Print how often each operation was tried and why, and the claims."""
    tries = Table("operation", "tries", Column("why it was tried again, or failed", overflow="fold", ratio=1),
                  expand=True, box=None, pad_edge=False)  # fmt: skip
    for line in report.operations:
        tries.add_row(line.name, str(line.attempts), Text(_why(line), style="dim"))
    console.print("\nHow often each operation was tried, and why", tries, "")
    for claim in report.claims:
        sign = ("✓", "green") if claim.is_true else ("✗", "bold red")
        console.print(Text.assemble(sign, f" {claim.claim} ", (f"({claim.shown_by})", "dim")))
    served, saved = report.bytes_served / MB, report.bytes_saved / MB
    console.print(f"\n{served:.1f} MB served, {saved:.1f} MB saved by resuming, {report.seconds} s")


def _why(line: Line) -> str:
    often = Counter(line.failures)
    reasons = [f"{reason} (x{count})" if count > 1 else reason for reason, count in often.items()]
    if line.resumed:
        times = f" (x{line.resumed})" if line.resumed > 1 else ""
        reasons.append(f"its process was killed, and it was resumed{times}")
    return "; ".join(reasons)
