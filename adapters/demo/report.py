"""The claims of the demonstration, checked against the files, the servers' logs and the events of the launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapters.demo.server import Request
from adapters.demo.stage import MB, Stage
from adapters.launcher.screen import circuit_line
from adapters.launcher.view import CircuitLine, LaunchView, Line
from events.circuit_events import CircuitClosed, CircuitOpened
from events.event import Event


class Claim(msgspec.Struct, frozen=True):
    """One claim, whether it was true, and the evidence."""

    claim: str
    is_true: bool
    shown_by: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the demonstration."""

    claims: tuple[Claim, ...]
    operations: tuple[Line, ...]
    circuits: tuple[CircuitLine, ...]
    bytes_served: int
    bytes_saved: int
    seconds: float

    @property
    def is_proven(self) -> bool:
        """Whether every claim was true."""
        return all(claim.is_true for claim in self.claims)


def judge(
    stage: Stage,
    view: LaunchView,
    events: list[Event],
    broken_at_kill: list[str],
    after_kill: list[Request],
    attempts_at_kill: dict[str, int],
) -> Iterator[Claim]:
    """The claims, each with whether it was true."""
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
        not broken_at_kill and not parts and not stage.too_short and stage.looks > 0,
        f"{stage.too_short} in {stage.looks} looks, {len(broken_at_kill)} by hash at the kill, {len(parts)} left",
    )
    saved_after = saved_bytes(after_kill)
    yield Claim(
        "downloads resumed where they stopped",
        saved_after > 0,
        f"{saved_bytes(stage.requests) / MB:.1f} MB not sent again, {saved_after / MB:.1f} MB of them after the kill",
    )
    resumed = [name for name, line in view.lines.items() if line.resumed]
    continued = [name for name in resumed if 1 < attempts_at_kill[name] <= view.lines[name].attempts]
    yield Claim("attempts went on counting across the kill", bool(continued), f"{', '.join(continued) or 'none'}")
    opened = {event.key for event in events if isinstance(event, CircuitOpened)}
    closed = {event.key for event in events if isinstance(event, CircuitClosed)}
    mirror = f"127.0.0.1:{stage.mirror_port}"
    yield Claim(
        "the circuit of the host that was down opened, and closed when it was back",
        opened == {mirror} and closed == {mirror},
        f"{len([event for event in events if isinstance(event, CircuitOpened)])} times open, then closed: {mirror}",
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


def saved_bytes(requests: list[Request]) -> int:
    """Bytes that were not sent again because a request began where an earlier one stopped."""
    return sum(request.start for request in requests if request.status == 206)


def print_report(report: Report, console: Console) -> None:
    """Print how often each operation was tried and why, the circuits, and the claims."""
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
        console.print(circuit_line(circuit, 0.0))
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
    often = Counter(line.failures)
    reasons = [f"{reason} (x{count})" if count > 1 else reason for reason, count in often.items()]
    if line.resumed:
        reasons.append("its process was killed, and it was resumed")
    return "; ".join(reasons)
