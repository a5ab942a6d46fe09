"""ComfyUI servers that keep all in memory, and a launcher that reconciles its prompts with them, in virtual time."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from adapters.comfyui.answers import ABSENT, Finished, Standing
from adapters.comfyui.deaths import Lost, blamed, trust
from adapters.comfyui.reconcile import GRACE, UNKNOWN_AFTER, Seen, after, fell, is_over, verdict
from adapters.comfyui.record import Posted
from adapters.comfyui.turns import InServer, Waiting, may_post

End = Literal["done", "failed", "cancelled", "interrupted", "asked", "quarantined"]


class Process:
    """A process of a server: its queue, what it runs, and its history."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.is_alive = True
        self.counter = 0
        self.queue: list[tuple[int, str]] = []
        self.running: tuple[int, str] | None = None
        self.history: dict[str, Finished] = {}
        self.shown: set[str] = set()
        """The prompts that the launcher has seen here."""

    def take(self, key: str) -> int:
        self.counter += 1
        self.queue.append((self.counter, key))
        return self.counter

    def run(self) -> None:
        if self.running is None and self.queue:
            self.running = self.queue.pop(0)

    def end(self, finished: Finished) -> None:
        assert self.running is not None
        self.history[self.running[1]] = finished
        self.running = None

    def has(self, key: str) -> bool:
        return self.is_alive and key in self.in_queue()

    def in_queue(self) -> list[str]:
        return [key for _, key in ([self.running] if self.running else []) + self.queue]

    def standing(self, key: str) -> Standing:
        if self.running and self.running[1] == key:
            return Standing("running", float(self.running[0]))
        for number, one in self.queue:
            if one == key:
                return Standing("pending", float(number))
        return Standing("finished", finished=self.history[key]) if key in self.history else ABSENT


class Prompt(msgspec.Struct):
    """A prompt, as the journal has it; the last fields are in the memory of the launcher alone."""

    key: str
    posted: Posted | None = None
    end: End | None = None
    has_outputs: bool = False
    wants_cancel: bool = False
    unknown_since: float | None = None
    is_watched: bool = False
    number_fell: bool = False


class World:
    """Servers, a launcher, and what really happened. Prompts of other clients have keys that begin with ``x``."""

    def __init__(self, *, is_own: bool, has_numbers: bool = True) -> None:
        self.is_own = is_own
        self.has_numbers = has_numbers
        self.now = 0.0
        self.processes: list[Process] = []
        self.files: set[str] = set()
        self.flying: list[tuple[float, str]] = []
        self.prompts: dict[str, Prompt] = {}
        self.deaths: dict[str, list[str]] = {}
        self.stops: set[str] = set()
        self.foreign = 0
        self.foreign_ran = False
        self.is_fresh = True
        """Whether the launcher has looked since something last began or ended to run."""
        self.guilt: dict[str, int] = {}
        """How often a prompt was executing when the server died by itself, and the launcher could know."""
        self.doubts: dict[str, int] = {}
        """How often a prompt was in a server that died by itself, or on its way there."""
        self.interrupted: set[str] = set()
        self.were_cut: set[str] = set()
        """Those that a connection was cut for, since they were seen."""
        self.start()

    # the servers

    @property
    def server(self) -> Process | None:
        """The process that answers."""
        last = self.processes[-1]
        return last if last.is_alive else None

    def start(self) -> None:
        """Start one, unless one answers."""
        if self.server is None if self.processes else True:
            self.processes.append(Process(f"{len(self.processes) + 1}@1@b"))

    def start_another(self) -> None:
        """Start one though the first still runs: a launcher that came back has not found it."""
        if self.is_own:
            self.processes.append(Process(f"{len(self.processes) + 1}@1@b"))

    def run(self) -> None:
        for process in self.processes:
            if process.is_alive and process.running is None and process.queue:
                process.run()
                self.is_fresh = False

    def write(self, *, is_told: bool) -> None:
        """What runs writes its files; its message reaches the launcher or not."""
        for process in self.processes:
            if process.is_alive and process.running:
                key = process.running[1]
                self.files.add(key)
                if key in self.prompts and is_told:
                    self.prompts[key].has_outputs = True
                    self.is_fresh = False

    def finish(self, *, succeeds: bool = True, is_kept: bool = True, is_told: bool = True) -> None:
        for process in self.processes:
            if process.is_alive and process.running:
                if succeeds and is_kept:
                    self.write(is_told=is_told)
                process.end(Finished(succeeds))
                self.is_fresh = False

    def interrupt(self) -> None:
        """Another client interrupts what runs."""
        if self.server and self.server.running:
            self.interrupted.add(self.server.running[1])
            self.server.end(Finished(False, interrupted=True))
            self.is_fresh = False

    def die(self, *, is_told: bool = True) -> None:
        process = self.server
        if process is None:
            return
        process.is_alive = False
        if not self.is_own and is_told:
            self._cut()
        if self.is_own and process.identity not in self.stops:
            running = process.running or (process.queue[0] if process.queue else None)
            if running and self.is_fresh and not any(one.startswith("x") for one in process.in_queue()):
                self.guilt[running[1]] = self.guilt.get(running[1], 0) + 1
            for one in self.prompts.values():
                if one.posted and one.posted.server == process.identity and one.end is None:
                    self.doubts[one.key] = self.doubts.get(one.key, 0) + 1

    def stop(self, *, is_signalled: bool = True) -> None:
        """The launcher stops it; or is killed between its note and the signal."""
        if self.server and self.is_own:
            self.stops.add(self.server.identity)
            if is_signalled:
                self.die()
            else:
                self.restart_launcher()

    def deliver(self) -> None:
        """POSTs without an answer come through, to what listens now."""
        due = [one for one in self.flying if one[0] <= self.now]
        self.flying = [one for one in self.flying if one[0] > self.now]
        for _, key in due:
            if self.server:
                self.server.take(key)

    def add_foreign(self) -> None:
        if self.server:
            self.foreign += 1
            self.server.take(f"x{self.foreign}")
            self.is_fresh = False

    def clear_history(self) -> None:
        if self.server:
            self.server.history.clear()

    # the launcher

    def ask(self) -> None:
        """A new prompt."""
        key = f"p{len(self.prompts)}"
        self.prompts[key] = Prompt(key)

    def restart_launcher(self) -> None:
        """It dies and comes back: what is in its memory alone is gone."""
        for one in self.prompts.values():
            one.unknown_since, one.is_watched, one.number_fell = None, False, False
        self.foreign_ran = False
        if self.server:
            self.stops.discard(self.server.identity)

    def cancel(self, which: int) -> None:
        one = self._one(which)
        if one is not None and one.end is None:
            if one.posted is None:
                one.end = "cancelled"
            else:
                one.wants_cancel = True
                one.posted = msgspec.structs.replace(one.posted, is_deleted=True)

    def cut(self) -> None:
        """A proxy refuses for a moment."""
        if not self.is_own:
            self._cut()

    def look(self) -> None:
        """Ask the server for every prompt, and conclude."""
        server = self.server
        if server is None:
            if not self.is_own:
                self._cut()
            return
        lost: list[tuple[Prompt, str, Lost]] = []
        for one in self.prompts.values():
            if one.posted is None or one.end is not None:
                continue
            if one.wants_cancel:
                self._remove(server, one.key)
            self._conclude(server, one, lost)
        self._blame(lost)
        self.foreign_ran = server.running is not None and server.running[1].startswith("x")
        self.is_fresh = True

    def post(self, fate: Literal["answered", "unanswered", "late", "gone"], delay: float = 0.0) -> None:
        """POST those whose turn it is, after a look."""
        self.look()
        server = self.server
        if server is None:
            return
        for key in may_post(self.waiting(), self.in_server(server)):
            one = self.prompts[key]
            assert not self.lives(key), f"{key} is posted while its first run lives"
            one.posted = Posted(key, server.identity if self.is_own else "", at=0.0)
            server.shown.discard(key)
            self.were_cut.discard(key)
            one.is_watched, one.number_fell, one.unknown_since = True, False, None
            match fate:
                case "answered":
                    number = float(server.take(key))
                    for other in self.prompts.values():
                        if other.posted and fell(other.posted, number):
                            other.number_fell = True
                    one.posted = msgspec.structs.replace(one.posted, number=number)
                case "unanswered":
                    server.take(key)
                case "late":
                    self.flying.append((self.now + min(delay, GRACE - 1.0), key))
                case "gone":
                    pass

    def waiting(self) -> list[Waiting]:
        return [
            Waiting(one.key, float(one.key[1:]), is_suspected=self._is_suspected(one.key))
            for one in self.prompts.values()
            if one.posted is None and one.end is None
        ]

    def in_server(self, server: Process) -> list[InServer]:
        ours = [
            InServer(one.key, self._is_suspected(one.key))
            for one in self.prompts.values()
            if one.posted is not None and one.end is None
        ]
        return ours + [InServer() for key in server.in_queue() if key.startswith("x")]

    def lives(self, key: str) -> bool:
        """Whether a process has it, or will get it."""
        return any(process.has(key) for process in self.processes) or any(one == key for _, one in self.flying)

    # the parts of a look

    def _conclude(self, server: Process, one: Prompt, lost: list[Any]) -> None:
        assert one.posted is not None
        standing = server.standing(one.key)
        if not self.has_numbers:
            standing = msgspec.structs.replace(standing, number=None)
        if standing != ABSENT:
            server.shown.add(one.key)
            self.were_cut.discard(one.key)
        seen = Seen(
            standing,
            server.identity if self.is_own else "",
            lives=any(process.is_alive for process in self.processes if process is not server),
            is_queue_empty=not server.in_queue(),
            number_fell=one.number_fell,
            is_watched=one.is_watched,
            unknown_for=0.0 if one.unknown_since is None else self.now - one.unknown_since,
        )
        is_known = one.has_outputs or (standing.finished is not None and standing.finished.succeeded)
        found = verdict(one.posted, seen, is_known and one.key in self.files)
        before, one.posted = one.posted, after(one.posted, standing, seen.server)
        match found:
            case "unknown":
                one.unknown_since = self.now if one.unknown_since is None else one.unknown_since
                if seen.unknown_for >= UNKNOWN_AFTER:
                    one.end = "asked"
                return
            case "lost":
                assert not self.lives(one.key), f"{one.key} is called lost while its run lives"
                assert one.key not in server.shown or one.key in self.were_cut, f"{one.key} is lost without a sign"
                if is_over(before, seen):
                    lost.append((one, before.server, Lost(one.key, before.number, before.was_running)))
                one.posted, one.has_outputs = None, False
            case "done":
                assert one.key in self.files, f"{one.key} is called done without its files"
                one.end = "done"
                self.deaths.pop(one.key, None)
            case "cancelled":
                assert before.is_deleted
                assert not self.lives(one.key), f"{one.key} is called cancelled while its run lives"
                one.end = "cancelled"
            case "interrupted":
                assert one.key in self.interrupted
                one.end = "interrupted"
            case "failed":
                one.end = "failed"
        one.unknown_since = None

    def _blame(self, lost: list[tuple[Prompt, str, Lost]]) -> None:
        counted = {server for servers in self.deaths.values() for server in servers}
        for server in {server for _, server, _ in lost} - counted - {""}:
            of_it = [one for _, of, one in lost if of == server]
            key = blamed(of_it, was_ours=server in self.stops, foreign_ran=self.foreign_ran)
            if key is not None:
                self.deaths.setdefault(key, []).append(server)
        for one in self.prompts.values():
            if one.end is None and one.posted is None and trust(len(self.deaths.get(one.key, ()))) == "quarantined":
                one.end = "quarantined"

    def _remove(self, server: Process, key: str) -> None:
        server.queue = [one for one in server.queue if one[1] != key]
        if server.running and server.running[1] == key:
            server.end(Finished(False, interrupted=True))

    def _cut(self) -> None:
        for one in self.prompts.values():
            if one.posted is not None:
                one.posted = msgspec.structs.replace(one.posted, was_cut=True)
                self.were_cut.add(one.key)

    def _is_suspected(self, key: str) -> bool:
        return trust(len(self.deaths.get(key, ()))) == "suspected"

    def _one(self, which: int) -> Prompt | None:
        return list(self.prompts.values())[which % len(self.prompts)] if self.prompts else None
