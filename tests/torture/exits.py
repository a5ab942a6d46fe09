"""How processes with a journal end: in time, and with everything written where that is possible (D12)."""

from __future__ import annotations

import atexit
import itertools
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from adapters.sqlite.store import SQLiteStore
from recovery.journal.config import JOURNAL_DEFAULTS, JournalConfig
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.torture.figures import Figure
from tests.torture.fork_server import Child, ForkServer, wait_for_ends

MODES = ("asyncio", "trio", "threads")
SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGTERM, handled": [signal.SIGTERM],
}
BY_HAND = ("no close", "close at exit", "close in a thread", "close twice at once")
ENDINGS = ("return", "exception", *SIGNALS, "sys.exit in a thread", *BY_HAND)
STORES = ("healthy", "hangs in append", "hangs in open", "two that hang")
PARALLEL = 4
"""Processes with a hanging store that run at a time; they sleep."""
EVENTS = 50
MAX_SECONDS = 5.0


class Case(msgspec.Struct, frozen=True):
    """How a process runs its calls, how it ends, and what its store does."""

    mode: str
    ending: str
    store: str

    def __str__(self) -> str:
        return f"{self.mode}: {self.ending}, {self.store}"

    @property
    def is_orderly(self) -> bool:
        """Whether every accepted event must be written."""
        return self.store == "healthy" and self.ending != "SIGTERM"


class HangingStore(SQLiteStore):
    """A store that never returns from *method*."""

    method = "append"

    async def open(self, run: object) -> Sequence[str]:
        if self.method == "open":
            threading.Event().wait()
        return await super().open(run)  # type: ignore[arg-type]  # a Run

    async def append(self, rows: Sequence[Row]) -> None:
        threading.Event().wait()


def cases() -> list[Case]:
    """Every case. Two journals share the time to close only if neither was closed before the exit."""
    every = itertools.starmap(Case, itertools.product(MODES, ENDINGS, STORES))
    return [case for case in every if case.store != "two that hang" or case.ending in ("no close", "close at exit")]


def run_process(path: str, notes: str, mode: str, ending: str, store: str, budget: float) -> None:
    """Be the process: publish events, note the time, and end."""
    config = JournalConfig(close_timeout=budget)
    first = SQLiteStore(path) if store == "healthy" else HangingStore(path)
    services = [Recovery(store=first, journal_config=config)]
    if store == "hangs in open":
        HangingStore.method = "open"
    if store == "two that hang":
        services.append(Recovery(store=HangingStore(f"{path}-2"), journal_config=config))
    if ending == "SIGTERM, handled":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if mode == "threads":
        _Threads(services, notes, ending).run()
    else:
        anyio.run(_Tasks(services, notes, ending).run, backend=mode)


class _Ending:
    def __init__(self, services: list[Recovery], notes: str, ending: str) -> None:
        self.services = services
        self.service = services[0]
        self.ending = ending
        self._notes = notes

    def accept(self) -> None:
        """Publish events, and note when they are accepted."""
        for service in self.services:
            fetch = service.recoverable("fetch", max_retries=0, breaker=None)(self._fail)
            for _ in range(EVENTS // 2):
                with suppress(ConnectionError):
                    fetch()
        with open(self._notes, "a") as file:
            file.write(f"accepted {time.monotonic()}\n")

    def _fail(self) -> None:
        raise ConnectionError

    def close_by_hand(self) -> None:
        """Close the service, in the endings that do so by hand."""
        if self.ending == "close at exit":
            atexit.register(self.service.close)
        if self.ending in ("close in a thread", "close twice at once"):
            times = 2 if self.ending == "close twice at once" else 1
            threads = [threading.Thread(target=self.service.close) for _ in range(times)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()


class _Threads(_Ending):
    def run(self) -> None:
        if self.ending in BY_HAND:
            self.accept()
            self.close_by_hand()
        elif self.ending == "sys.exit in a thread":
            thread = threading.Thread(target=self._body)
            thread.start()
            thread.join()
        else:
            self._body()

    def _body(self) -> None:
        with self.service:
            self.accept()
            if self.ending == "exception":
                raise ValueError(self.ending)
            if self.ending == "sys.exit in a thread":
                sys.exit(3)
            if self.ending in SIGNALS:
                time.sleep(60.0)


class _Tasks(_Ending):
    async def run(self) -> None:
        if self.ending in BY_HAND:
            self.accept()
            await anyio.to_thread.run_sync(self.close_by_hand)
            return
        async with self.service:
            self.accept()
            if self.ending == "exception":
                raise ValueError(self.ending)
            if self.ending == "sys.exit in a thread":
                await anyio.to_thread.run_sync(sys.exit, 3)
            if self.ending in SIGNALS:
                await anyio.sleep(60.0)


class Ended(msgspec.Struct):
    """How a process ended: after *seconds* (None: it did not end), with *written* events in its file."""

    case: Case
    seconds: float | None
    code: int | None
    written: int
    output: str

    def problem(self, limit: float) -> str | None:
        """What is wrong with this end; None if nothing is."""
        if self.seconds is None:
            return f"{self.case} did not end"
        if self.seconds > limit:
            return f"{self.case} took {self.seconds:.2f} s"
        if self.case.is_orderly and self.written != EVENTS:
            return f"{self.case}: {self.written} of {EVENTS} events are written\n{self.output}"
        return None


def run_cases(cases: Sequence[Case], fork_server: ForkServer, budget: float) -> Iterator[Ended]:
    """Run each case; those with a hanging store in parallel."""
    hanging = [case for case in cases if case.store != "healthy"]
    waves = [[case] for case in cases if case.store == "healthy"]
    waves += [hanging[begin : begin + PARALLEL] for begin in range(0, len(hanging), PARALLEL)]
    for wave in waves:
        with tempfile.TemporaryDirectory() as name:
            begun = []
            for number, case in enumerate(wave):
                folder = Path(name) / str(number)
                folder.mkdir()
                about = (str(folder / "calls.db"), str(folder / "notes"), case.mode, case.ending, case.store, budget)
                begun.append((case, folder, fork_server.fork(run_process, *about, out=folder / "out")))
            accepted = [_accepted_at(folder / "notes", child) for _, folder, child in begun]
            for case, _, child in begun:
                _send(SIGNALS.get(case.ending, ()), child)
            wait_for_ends([child for _, _, child in begun], budget + 10.0)
            for (case, folder, child), at in zip(begun, accepted, strict=True):
                code = child.wait(0.0)
                seconds = None if code is None else child.ended - at
                if code is None:
                    child.kill()
                yield Ended(case, seconds, code, _written(folder / "calls.db"), child.out.read_text())


def _accepted_at(notes: Path, child: Child) -> float:
    limit = time.monotonic() + 30.0
    while not (notes.exists() and notes.read_text().endswith("\n")):
        assert time.monotonic() < limit, child.out.read_text()
        time.sleep(0.001)
    return float(notes.read_text().split()[1])


def _send(signals: Sequence[int], child: Child) -> None:
    for number in signals:
        time.sleep(0.03)
        child.send(number)


def _written(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM events WHERE call <> ''")
            return int(count)
    except sqlite3.Error:
        return 0


def exit_matrix(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figures of process ends."""
    chosen = cases()[:: max(round(1 / share), 1)]
    budget = JOURNAL_DEFAULTS.close_timeout
    ended = list(run_cases(chosen, fork_server, budget))
    problems = [problem for one in ended if (problem := one.problem(MAX_SECONDS)) is not None]
    for problem in problems:
        print(problem, file=sys.stderr)
    healthy, hanging = (
        max((one.seconds or 0.0 for one in ended if (one.case.store == "healthy") is is_healthy), default=0.0)
        for is_healthy in (True, False)
    )
    unwritten = [one for one in ended if one.case.is_orderly and one.written != EVENTS]
    late = [one for one in ended if one.seconds is None or one.seconds > MAX_SECONDS]
    text = f"at most {healthy:.2f} s, {hanging:.2f} s if the store hangs"
    orderly = sum(one.case.is_orderly for one in ended)
    return [
        Figure("D12: seconds to end", f"{len(ended)} processes", text, f"{MAX_SECONDS:g} s", not late),
        Figure("D12: ended, and not all written", f"{orderly} processes", f"{len(unwritten)}", "0", not unwritten),
    ]
