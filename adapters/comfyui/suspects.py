"""Which prompts were executing when their server died, and which stops were ours: a file that survives the launcher."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.disk import decode_plain, sync_file, write_whole

MOST_KEYS, MOST_DEATHS, MOST_STOPS, MOST_WORDS = 1000, 3, 100, 300
"""How many prompts, deaths of each, stops, and characters of a death's words the file keeps: the latest."""
MOST_BYTES = 16 * 1024 * 1024
"""More than the file can have."""

log = logging.getLogger("recovery.launch")


class Death(msgspec.Struct, frozen=True):
    """A death of a server while it executed a prompt.

    Args:
        server: Which run of the server.
        words: What is known of it, as "exit code 137, out of memory".
        at: Seconds since the epoch, for people.
    """

    server: str
    words: str = ""
    at: float = 0.0


class Noted(msgspec.Struct):
    """What the file has: the deaths by the keys of their prompts, and the servers that the launcher stopped."""

    deaths: dict[str, tuple[Death, ...]] = {}
    stops: list[str] = []


class Suspects:
    """Deaths and stops of one server, in a file: every change is on the disk before its method returns.

    Where the file cannot be written, as on a full disk, a warning says so, and what is noted counts until the launcher
    ends.

    A file that cannot be read counts as empty, with a warning. It is kept as ``<path>.damaged``.

    Args:
        path: The file. Its folder must be there before the first change.
        clock: Gives seconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock
        self._noted = self._read()

    def deaths(self, key: str) -> tuple[Death, ...]:
        """The deaths of servers that executed the prompt *key*, since it was cleared; the oldest first."""
        return self._noted.deaths.get(key, ())

    def died(self, key: str, server: str, words: str = "") -> None:
        """Count a death against the prompt *key*. The same death counts once, however often it is told.

        Args:
            key: Of the prompt that was executing.
            server: The process that died (``identity.of``). For a server that is not ours: what tells this POST of the
                prompt from its others, as its time.
            words: What is known of the death. They are shown with the question whether the prompt is run again.
        """
        known = self._noted.deaths.pop(key, ())
        if not any(one.server == server for one in known):
            known = (*known, Death(server, words[:MOST_WORDS], self._clock()))[-MOST_DEATHS:]
        self._noted.deaths[key] = known
        while len(self._noted.deaths) > MOST_KEYS:
            del self._noted.deaths[next(iter(self._noted.deaths))]
        self._write()

    def is_counted(self, server: str) -> bool:
        """Whether the death of *server* counts against a prompt already: it counts against one alone."""
        return any(one.server == server for deaths in self._noted.deaths.values() for one in deaths)

    def counted_at(self) -> float:
        """When a death of a server that is not ours was last counted: seconds since the epoch; 0.0 if none was.

        Such a server has no identity: a prompt that was sent before that moment, and is lost, was lost in that death.
        """
        found = (one.at for deaths in self._noted.deaths.values() for one in deaths if "@" not in one.server)
        return max(found, default=0.0)

    def clear(self, key: str) -> None:
        """Forget the deaths of the prompt *key*: it has succeeded, or a person trusts it."""
        if self._noted.deaths.pop(key, None) is not None:
            self._write()

    def note_stop(self, server: str) -> None:
        """Note that the launcher is about to stop *server* (``identity.of``): call it before the signal."""
        if server and not self.was_ours(server):
            self._noted.stops = [*self._noted.stops, server][-MOST_STOPS:]
            self._write()

    def forget_stop(self, server: str) -> None:
        """Take back a stop that did not happen: *server* still lives, and was adopted."""
        if self.was_ours(server):
            self._noted.stops.remove(server)
            self._write()

    def was_ours(self, server: str) -> bool:
        """Whether the launcher stopped *server*."""
        return server in self._noted.stops

    def _write(self) -> None:
        try:
            write_whole(self.path, msgspec.json.encode(self._noted))
            sync_file(self.path)
            sync_file(self.path.parent)
        except OSError as error:  # the prompts go on
            log.warning("deaths of the server are not known any more once the launcher ends: %s", error)

    def _read(self) -> Noted:
        try:
            return decode_plain(self.path, Noted, MOST_BYTES)
        except FileNotFoundError:
            return Noted()
        except (OSError, ValueError) as error:
            kept = self.path.with_name(self.path.name + ".damaged")
            log.warning("earlier deaths of the server are not known: %s. The file is kept as %s", error, kept)
            with suppress(OSError):
                self.path.replace(kept)
            return Noted()
