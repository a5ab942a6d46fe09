"""Large downloads from servers that cut, rotate, ignore and change, and by processes that are killed.

Each ends with the right file, and with at most 1.1 bytes sent for each of its bytes, or with nothing under its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
import time
from pathlib import Path
from typing import Literal

import httpx2
import msgspec

from adapters.downloads import Downloaded, WrongContentError, download
from recovery.service import Recovery
from tests.adapters.downloads.rough_server import Rough, RoughServer
from tests.torture.figures import Figure, scaled
from tests.torture.fork_server import ForkServer

MB = 1_000_000
SIZE = 256 * MB
CUTS = (5 * MB, 20 * MB)
KILLS = 10
MOST_ATTEMPTS = 200
MOST_RATIO = 1.1
MOST_SECONDS = 60.0


class Scenario(msgspec.Struct, frozen=True):
    """A server, and whether the caller knows the sha256 of its file, that of an older one, or none."""

    name: str
    rough: Rough
    known: Literal["right", "outdated", ""] = ""
    changes: bool = False


SCENARIOS = (
    Scenario("every third answer ignores Range", Rough(ignore_every=3)),
    Scenario("every third answer ignores Range, sha256 known", Rough(ignore_every=3), "right"),
    Scenario("no ETag but a date, every third answer ignores Range", Rough(ignore_every=3, etag="none", modified=True)),
    Scenario("signed URLs, a new ETag each time, sha256 known", Rough(signed=True, etag="new"), "right"),
    Scenario("signed URLs, a new ETag each time, linked sha256", Rough(signed=True, etag="new", linked="sha256")),
    Scenario(
        "signed URLs, linked id, every third answer ignores Range",
        Rough(signed=True, etag="new", linked="id", ignore_every=3),
    ),
    Scenario("the file changes midway", Rough(), changes=True),
    Scenario("signed URLs, the file changes midway", Rough(signed=True, etag="new", linked="sha256"), changes=True),
    Scenario("the file is not the promised one any more", Rough(), "outdated", changes=True),
)

SLOW = Rough(rate=50 * MB)
"""Slower than the client, so that little is under way when it is killed."""
SLOW_AND_SIGNED = Rough(rate=50 * MB, signed=True, etag="new", linked="sha256")


class Outcome(msgspec.Struct):
    """How a download ended: *found* is the sha256 of the file that has its name, if any."""

    attempts: int
    ratio: float
    found: str | None
    wanted: str

    @property
    def passed(self) -> bool:
        return self.found == self.wanted and self.ratio <= MOST_RATIO


def downloads(fork_server: ForkServer, share: float) -> list[Figure]:
    """The row of ``make torture``."""
    size = scaled(SIZE, share)
    content, changed = random.Random("model").randbytes(size), random.Random("a newer model").randbytes(size)
    figures = []
    for scenario in SCENARIOS:
        outcome = asyncio.run(fetch(scenario, content, changed))
        figures.append(
            _figure(f"{size // MB} MB cut, {scenario.name}", f"{outcome.attempts} attempts", outcome, scenario.known)
        )
    for name, rough in (("killed", SLOW), ("killed, signed URLs, a new ETag each time", SLOW_AND_SIGNED)):
        kills = scaled(KILLS, share)  # each loses what is on its way, however large the file is
        done = f"{kills} kill{'s' if kills > 1 else ''}"
        figures.append(_figure(f"{size // MB} MB {name}", done, kill(fork_server, rough, content, kills)))
    return figures


def _figure(what: str, how_often: str, outcome: Outcome, known: str = "") -> Figure:
    end = "nothing under its name" if outcome.found is None else f"the right file, {outcome.ratio:.3f} x"
    end = end if outcome.found in (None, outcome.wanted) else "ANOTHER FILE"
    if known == "outdated":
        return Figure(f"download, {what}", how_often, end, "nothing under its name", outcome.found is None)
    return Figure(f"download, {what}", how_often, end, f"the right file, <= {MOST_RATIO} x", outcome.passed)


async def fetch(scenario: Scenario, content: bytes, changed: bytes) -> Outcome:
    """Download in as many attempts as a call of a service makes."""
    first, last = (share * len(content) // SIZE for share in CUTS)
    rough = msgspec.structs.replace(scenario.rough, cut=(first, last))
    if scenario.changes:
        rough = msgspec.structs.replace(rough, change_after=len(content) // 2)
    attempts = 0
    service = Recovery()
    with tempfile.TemporaryDirectory() as folder, RoughServer(content, rough, changed=changed) as server:
        place, sha256 = Path(folder, "model.bin"), server.sha256 if scenario.known else None
        async with httpx2.AsyncClient(verify=False, follow_redirects=True, timeout=10.0) as client:

            @service.recoverable("download", max_retries=MOST_ATTEMPTS, initial_delay=0.0, breaker=None)
            async def attempt() -> Downloaded:
                nonlocal attempts
                attempts += 1
                return await download(client, server.url, place, sha256=sha256)

            try:
                await attempt()
            except (WrongContentError, httpx2.HTTPError) as error:
                print(f"{scenario.name}: {type(error).__name__}: {error}")
        return Outcome(attempts, server.ratio(), _found(place), server.sha256)


def kill(fork_server: ForkServer, rough: Rough, content: bytes, kills: int) -> Outcome:
    """Download in processes that are killed at random places of the file, but for the last one."""
    rng = random.Random(4)
    places = sorted(rng.randrange(len(content)) for _ in range(kills))
    with tempfile.TemporaryDirectory() as folder, RoughServer(content, rough) as server:
        place, out = Path(folder, "model.bin"), Path(folder, "out")
        for at in [*places, None]:
            child = fork_server.fork(run_to_its_end, server.url, str(place), out=out)
            limit = time.monotonic() + MOST_SECONDS
            while at is not None and server.sent < at and time.monotonic() < limit:
                time.sleep(0.001)
            if at is not None or child.wait(MOST_SECONDS) is None:
                child.kill()
        return Outcome(kills + 1, server.ratio(), _found(place), server.sha256)


def run_to_its_end(url: str, place: str) -> None:
    """Download in one attempt, in a process of its own."""

    async def run() -> None:
        async with httpx2.AsyncClient(verify=False, follow_redirects=True, timeout=10.0) as client:
            await download(client, url, Path(place))

    asyncio.run(run())


def _found(place: Path) -> str | None:
    if not place.exists():
        return None
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
