"""Draw docs/pictures/status.svg: what `recovery status --watch` shows of a launch that goes on.

python -m tests.adapters.cli.picture
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import anyio
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from adapters.journals.status import JournalStatus, read_status
from adapters.sqlite.store import SQLiteStore
from adapters.terminal.status_table import status_table
from events.circuit_events import CircuitOpened
from events.event import Event
from events.evidence import Category, Evidence
from events.operation_events import OperationRecovered, Parked, RetryScheduled
from recovery.policies.incidents import open_circuit
from recovery.questions import cause_of
from tests.adapters.cli.snapshots import RUN, call_id, failed, saved, started, zone
from tests.adapters.sqlite import journals

PICTURE = Path(__file__).parent.parent.parent.parent / "docs" / "pictures" / "status.svg"
NOW = RUN.wall + 100.0
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"
 aria-label="recovery status --watch">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""
"""As that of rich, without its fonts, which a browser would load from another host."""


def events() -> Iterator[Event]:
    """A launch in which a download has recovered, one goes on, and others wait for a disk, a host and a person."""
    host, url, hub = "models.example.org:443", "https://models.example.org/", "huggingface.co:443"
    yield started("1", "download", "sdxl", f"{url}sdxl.safetensors", at=1.0, key=host)
    yield failed("1", "download", ConnectionResetError(errno.ECONNRESET, "reset"), at=62.0, key=host)
    yield RetryScheduled(at=62.0, call=call_id("1"), operation="download", key=host, after=4.0, retry=1)
    yield started("1", "download", "sdxl", f"{url}sdxl.safetensors", at=66.0, key=host, attempt=2)
    yield saved("1", at=99.0, key=host, attempt=2, offset=4_100_000_000, size=6_900_000_000, start=2_400_000_000)
    yield started("2", "download", "vae", f"{url}vae.safetensors", at=2.0, key=host)
    yield failed("2", "download", TimeoutError("timed out"), at=32.0, key=host)
    yield RetryScheduled(at=32.0, call=call_id("2"), operation="download", key=host, after=8.0, retry=1)
    yield started("2", "download", "vae", f"{url}vae.safetensors", at=40.0, key=host, attempt=2)
    yield saved("2", at=50.0, key=host, attempt=2, offset=330_000_000, size=330_000_000, start=120_000_000)
    yield OperationRecovered(at=51.0, call=call_id("2"), operation="download", key=host, attempt=2, elapsed=30.0)
    yield started("3", "download", "upscaler", f"{url}upscaler.pth", at=3.0, key=host)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/upscaler.pth")
    yield failed("3", "download", full, at=70.0, key=host)
    yield Parked(at=70.0, call=call_id("3"), operation="download", key=host, after=1.0, within=3600.0,
                 why="1.2 GB of room in models", category=Category.ENVIRONMENT)  # fmt: skip
    yield started("4", "download", "flux", "https://huggingface.co/flux", at=4.0, key=hub)
    yield failed("4", "download", Evidence(type="httpx2.HTTPStatusError", status=401, message="401 for flux"),
                 at=6.0, key=hub)  # fmt: skip
    yield Parked(at=6.0, call=call_id("4"), operation="download", key=hub, after=0.0,
                 why=cause_of("token:huggingface"), category=Category.AUTH)  # fmt: skip
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    yield started("5", "clone", "plugin", "https://git.example.org/plugin.git", at=5.0, key="git.example.org:443")
    yield failed("5", "clone", refused, at=80.0, key="git.example.org:443", retries=4)
    yield CircuitOpened(at=80.0, operation="clone", key="git.example.org:443", after=30.0, failures=5,
                        category=Category.UNREACHABLE, cause="the host refuses connections")  # fmt: skip
    yield RetryScheduled(at=80.0, call=call_id("5"), operation="clone", key="git.example.org:443", after=4.0, retry=5)
    yield Parked(at=84.0, call=call_id("5"), operation="clone", key="git.example.org:443", attempt=2, after=26.0,
                 why=open_circuit("clone", "git.example.org:443"))  # fmt: skip


async def status() -> JournalStatus:
    """The status of a journal with ``events``, whose process lives."""
    run = replace(RUN, pid=os.getpid())
    store = SQLiteStore(journal := Path(".recovery", "launch.db"))
    await store.open(run)
    try:
        await store.append(journals.rows_of(sorted(events(), key=lambda event: event.at), run=run.id))
        return await read_status(journal)
    finally:
        await store.close()


def draw() -> None:
    """Write the picture again."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), zone("UTC"):
        found = anyio.run(status)
        console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        console.print(Text("$ recovery status launch.toml --watch", style="bold"))
        console.print(status_table(found, Path("launch.toml"), now=NOW))
    drawn = console.export_svg(title="recovery status --watch", code_format=FORMAT, unique_id="status")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text("".join(f"{line.rstrip()}\n" for line in drawn.splitlines()), encoding="utf-8")


if __name__ == "__main__":
    draw()
