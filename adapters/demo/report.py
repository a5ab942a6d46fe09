"""The claims of the demonstration, checked against the files, the servers' logs and the events of the launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from adapters.demo.server import Request
from adapters.demo.stage import MB, Stage
from adapters.launcher.view import LaunchView, Line
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event
from recovery.installation import extra

with extra("launcher"):
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text


class Claim(msgspec.Struct, frozen=True):
    """One claim, whether it was true, and the evidence."""

    claim: str
    is_true: bool
    shown_by: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the demonstration."""

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
    """The state at the kill: the *broken* files, how many *requests* had arrived, the *attempts* by operation."""

    broken: list[str]
    requests: int
    attempts: dict[str, int]


def judge(stage: Stage, view: LaunchView, events: list[Event], at_kill: AtKill) -> Iterator[Claim]:
    """The claims, each with whether it was true."""
    whole, broken = stage.whole(), stage.broken()
    arrived = sum(stage.path(name).stat().st_size for name in whole)
    yield Claim(
        "every file arrived whole",
        whole == [*stage.expected] and not broken,
        f"{len(whole) - len(broken)} of {len(stage.expected)} files are as served, {arrived / MB:.0f} MB",
    )
    parts = list((stage.folder / "models").rglob("*.part*"))
    yield Claim(
        "no partial file ever bore a final name",
        not at_kill.broken and not parts and not stage.too_short and stage.looks > 0,
        f"{stage.too_short} in {stage.looks} looks, {len(at_kill.broken)} by content at the kill, {len(parts)} left",
    )
    saved, saved_after = saved_bytes(stage.requests), saved_bytes(stage.server.requests[at_kill.requests :])
    yield Claim(
        "downloads resumed where they stopped",
        saved_after > 0,
        f"{saved / MB:.1f} MB not sent again, {saved_after / MB:.1f} MB of them after the kill",
    )
    lines = view.lines.items()
    continued = [name for name, line in lines if line.resumed and 1 < at_kill.attempts[name] <= line.attempts]
    yield Claim("attempts went on counting across the kill", bool(continued), ", ".join(continued) or "none")
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
        f"{len(asked)} request in both runs",
    )
    recovered = {name for name, line in lines if line.failures and line.state == "done"}
    others = [name for name, line in lines if line.state != "done" and name != "missing"]
    yield Claim(
        "everything else recovered by itself",
        not others and recovered >= {"lora", "vae", "upscaler", "clip", *stage.mirrored},
        f"{len(recovered)} operations failed and recovered; not done: {', '.join(others) or 'none'}",
    )


def saved_bytes(requests: list[Request]) -> int:
    """Bytes that were not sent again because a request began where an earlier one stopped."""
    return sum(request.start for request in requests if request.status == 206)


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
        reasons.append("its process was killed, and it was resumed")
    return "; ".join(reasons)
