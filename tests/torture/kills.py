"""The kill loop: work, ``kill -9``, check what is left, and repeat on the same file (D2 to D6)."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import msgspec

from adapters.sqlite import files
from events.operation_events import OperationInterrupted
from tests.torture.crashed_process import KEEP_FEW, MAX_RETRIES, Options, work
from tests.torture.figures import Figure, percentile, scaled
from tests.torture.fork_server import Child, ForkServer
from tests.torture.recovered_files import DONE, ENDS, Event, Notes, Stored

ROUNDS = 1000
PER_FILE = 40
"""Kills before a new file is begun."""
MAX_SECONDS = 0.08
"""A process is killed at a random moment of this time after it opened its journal."""
INTERRUPTED = OperationInterrupted.__name__


class Tally(msgspec.Struct):
    """The results of all rounds."""

    kills: int = 0
    in_recovery: int = 0
    acknowledged: int = 0
    recovered: int = 0
    lost: list[str] = []
    disordered: list[str] = []
    ended_twice: list[str] = []
    not_found: list[str] = []
    quarantined: int = 0
    ages: list[float] = []
    excesses: list[float] = []
    commits: list[float] = []


class KilledJournal:
    """A journal's file, from its first killed process to the last one, which closes it in good order."""

    def __init__(
        self, folder: Path, fork_server: ForkServer, rng: random.Random, tally: Tally, *, acknowledges_early: bool
    ) -> None:
        self.path = folder / "journal" / "calls.db"
        self._folder = folder
        self._fork_server = fork_server
        self._rng = rng
        self._tally = tally
        self._acknowledges_early = acknowledges_early
        self._deletes = rng.random() < 0.5
        self._acknowledged: set[tuple[str, Event]] = set()
        self._deletable: set[str] = set()
        self._started = 0

    def kill_once(self, *, in_recovery: bool, with_second: bool) -> None:
        """One round. *with_second* runs a second process, which writes a file of its own."""
        rng = self._rng
        processes = [self._start(resumes=in_recovery or rng.random() < 0.5)]
        if with_second:
            processes.append(self._start(resumes=rng.random() < 0.5))
        killed = []
        for process, notes in processes:
            wait_for(b"began" if in_recovery else b"opened", notes, process)
        for process, _ in processes:
            time.sleep(rng.uniform(0.0, MAX_SECONDS))
            killed.append(time.monotonic())
            process.kill()
        self._tally.kills += len(processes)
        self._tally.in_recovery += in_recovery
        self._check([Notes.read(notes, at) for (_, notes), at in zip(processes, killed, strict=True)], killed)

    def _start(self, *, resumes: bool, works: bool = True, seconds: float = 10.0) -> tuple[Child, Path]:
        self._started += 1
        notes = self._folder / f"notes-{self._started}"
        options = Options(
            path=str(self.path),
            notes=str(notes),
            seed=self._rng.getrandbits(32),
            # One in five closes its journal at about the time of the kill.
            seconds=min(seconds, self._rng.uniform(0.0, MAX_SECONDS)) if self._rng.random() < 0.2 else seconds,
            resumes=resumes,
            deletes=self._deletes,
            acknowledges_early=self._acknowledges_early,
            works=works,
            waits_for_interval=self._rng.random() < 0.3,
        )
        return self._fork_server.fork(work, msgspec.to_builtins(options), out=self._folder / "out"), notes

    def _check(self, rounds: list[Notes], killed: list[float]) -> None:
        tally = self._tally
        stored = Stored.read(self.path, self._folder, [notes.run for notes in rounds])
        events = stored.events()
        tally.disordered += [f"events of {call}" for call in stored.shuffled]
        tally.recovered += sum(map(len, events.values()))
        for notes, at in zip(rounds, killed, strict=True):
            for call, accepted in notes.accepted.items():
                found = events.get((notes.run, call), [])
                # The kill may have come between accepting an end and noting it, and an interruption may follow an end.
                if DONE & {kind for kind, _ in [*found, *(event for event, _ in accepted)]}:
                    self._deletable.add(call)
                    if not found and self._deletes and stored.done >= KEEP_FEW.calls:
                        continue  # it was kept for as long as the retention asks
                # Another thread publishes the interruption, which may be noted before what was published earlier.
                found = [event for event in found if event[0] != INTERRUPTED]
                expected = [event for event, _ in accepted if event[0] != INTERRUPTED]
                # The kill may have come between accepting an event and noting it.
                if found[: len(expected)] != expected[: len(found)] or len(found) > len(expected) + 1:
                    tally.disordered.append(f"{call}: {expected} became {found}")
                if notes.opened is not None and not notes.closed:
                    times = [when for event, when in accepted if event[0] != INTERRUPTED]
                    lost = [when for when in times[len(found) :] if when > notes.opened]
                    tally.ages += [at - when for when in lost]
                    tally.excesses += [at - when - notes.window(when) for when in lost]
            found_here = {(call, event) for (run, call), found in events.items() if run == notes.run for event in found}
            missing = set(notes.acknowledged) - found_here
            tally.lost += [
                f"{call} {event}: accepted {notes.accepted[call]}, found {events.get((notes.run, call))}"
                for call, event in missing
                if not self._is_deletable(call, stored)
            ]
            tally.acknowledged += len(notes.acknowledged)
            tally.commits += [ended - begun for begun, ended in notes.commits]
            self._acknowledged |= set(notes.acknowledged)

    def _is_deletable(self, call: str, stored: Stored) -> bool:
        return self._deletes and call in self._deletable and stored.done >= KEEP_FEW.calls

    def end(self) -> None:
        """Resume every call to its end, close, and check what all rounds left."""
        tally = self._tally
        before = Stored.read(self.path, self._folder)
        process, notes = self._start(resumes=True, works=False, seconds=0.0)
        code = process.wait(60.0)
        assert code == 0, (self._folder / "out").read_text()
        last = Notes.read(notes, time.monotonic())
        after = Stored.read(self.path, self._folder)
        there: set[tuple[str, Event]] = set()
        ends: dict[str, int] = defaultdict(int)
        attempts: dict[str, int] = defaultdict(int)
        for (_, call), events in after.events().items():
            there |= {(call, event) for event in events}
            attempts[call] = max([attempts[call], *(attempt for _, attempt in events)])
            ends[call] += sum(kind in ENDS for kind, _ in events)
        # The last process has ended calls, too, and its retention may have deleted them.
        self._deletable |= {call for call, noted in last.accepted.items() if DONE & {kind for (kind, _), _ in noted}}
        tally.lost += [
            f"{one}, at the end; deletes: {self._deletes}, done: {after.done}"
            for one in self._acknowledged - there
            if not self._is_deletable(one[0], after)
        ]
        tally.ended_twice += [call for call, number in ends.items() if number > 1]
        # Each pending call was found, and left as it was or resumed to its end; or its last allowed attempt died.
        known = {event.call for event in before.rows.values() if type(event).__name__ in ENDS}
        # A call may be killed between its interruption, which another thread publishes, and the commit of its start.
        begun = {event.call for event in before.rows.values() if type(event).__name__ != INTERRUPTED}
        pending = {event.call: event.operation for event in before.rows.values() if event.call in begun - known}
        left = {call for call, operation in pending.items() if operation == "chain"}
        tally.not_found += sorted(left ^ (last.left & begun))
        quarantined = {call for call in last.quarantined if attempts[call] > MAX_RETRIES}
        not_found = [call for call in pending if call not in left | quarantined and not ends[call]]
        tally.not_found += [
            f"{call}: {[events for (_, one), events in after.events().items() if one == call]}" for call in not_found
        ]
        tally.quarantined += len(quarantined)
        tally.not_found += [str(part) for part in files.journal_files(self.path) if part != self.path]


def wait_for(word: bytes, notes: Path, process: Child) -> None:
    """Return when *process* has noted *word*."""
    end = time.monotonic() + 30.0
    while not (notes.exists() and word in notes.read_bytes()):
        assert time.monotonic() < end, f"{word!r} was never noted:\n{process.out.read_text()}"
        time.sleep(0.001)


def kill_processes(
    fork_server: ForkServer, rounds: int, *, seed: int = 0, acknowledges_early: bool = False, folder: str | None = None
) -> Tally:
    """Kill *rounds* times, in one of five while the process recovers what the previous one left; in *folder*."""
    rng, tally = random.Random(seed), Tally()
    done = 0
    while done < rounds:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            journal = KilledJournal(Path(place), fork_server, rng, tally, acknowledges_early=acknowledges_early)
            for _ in range(min(PER_FILE, rounds - done)):
                done += 1
                # Every killed recovery then has an orphan to adopt.
                journal.kill_once(in_recovery=done % 5 == 0, with_second=done % 5 == 4)
            journal.end()
    return tally


def kill_loop(fork_server: ForkServer, share: float) -> list[Figure]:
    """The figures of the kill loop."""
    tally = kill_processes(fork_server, scaled(ROUNDS, share))
    kills = f"{tally.kills} kills, {tally.in_recovery} in recovery"
    # One in a hundred may be later: other programs on this machine may delay a process.
    # The writer, when it wakes, may wait for the interpreter lock.
    in_time = percentile(tally.excesses, 0.99) <= (turn := sys.getswitchinterval())
    ages = f"{len(tally.ages)} lost, of age p99 {percentile(tally.ages, 0.99) * 1e3:.0f} ms"
    commits = f"commits p99 {percentile(tally.commits, 0.99) * 1e3:.0f} ms"
    late = (  # what decides
        f"p99 {percentile(tally.excesses, 0.99) * 1e3:+.1f} ms, most {max(tally.excesses, default=0.0) * 1e3:+.1f} ms"
    )
    for one in tally.lost:
        print(f"lost: {one}", file=sys.stderr)
    for one in tally.not_found:
        print(f"not found: {one}", file=sys.stderr)
    return [
        Figure("D3: acknowledged, and lost", kills, f"{len(tally.lost)} of {tally.acknowledged}", "0", not tally.lost),
        Figure("D4: calls out of order", kills, f"{len(tally.disordered)}", "0", not tally.disordered),
        Figure("D5: calls that ended twice", kills, f"{len(tally.ended_twice)}", "0", not tally.ended_twice),
        Figure(
            "D3: pending, and not found",
            f"{kills}, {tally.quarantined} quarantined",
            f"{len(tally.not_found)}",
            "0",
            not tally.not_found,
        ),
        Figure(
            "D6: what was lost, beyond 20 ms and its own commit",
            f"{ages}; {commits}",
            late,
            f"p99 {turn * 1e3:g} ms",
            in_time,
        ),
    ]
