"""The file of a server's deaths and of its ends by the launcher: it outlives both."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from adapters.comfyui.deaths import Death
from adapters.disk import read_plain, write_whole

MOST_BYTES = 4 * 1024 * 1024
MOST_KEYS = 1000
MOST_STOPS = 50
"""Deaths of so many prompts, and so many ends by the launcher, are kept: the oldest are forgotten first."""

log = logging.getLogger("recovery.launch")


class _Contents(msgspec.Struct, frozen=True):
    deaths: dict[str, tuple[Death, ...]] = {}
    stops: tuple[str, ...] = ()


class Suspects:
    """What is known of the deaths of one server. Every change is on the disk when its method returns.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._contents = self._read()

    def deaths(self, key: str) -> Sequence[Death]:
        """The deaths of the server while the prompt *key* was executing, since its last success."""
        return self._contents.deaths.get(key, ())

    def died(self, key: str, words: str, node: str = "") -> None:
        """Note that the server died while *key* was executing."""
        known = dict(self._contents.deaths)
        death = Death(time.time(), words, node)
        known[key] = (*known.pop(key, ()), death)
        while len(known) > MOST_KEYS:
            del known[next(iter(known))]
        self._write(msgspec.structs.replace(self._contents, deaths=known))

    def clear(self, key: str) -> None:
        """Forget the deaths of *key*: it has succeeded, or a person lets it run again."""
        if key in self._contents.deaths:
            rest = {one: deaths for one, deaths in self._contents.deaths.items() if one != key}
            self._write(msgspec.structs.replace(self._contents, deaths=rest))

    def note_stop(self, identity: str) -> None:
        """Note that the launcher is about to end the server process *identity*. Call it before the signal."""
        if identity and identity not in self._contents.stops:
            stops = (*self._contents.stops, identity)[-MOST_STOPS:]
            self._write(msgspec.structs.replace(self._contents, stops=stops))

    def was_ours(self, identity: str) -> bool:
        """Whether the launcher has ended the process *identity*, or was about to."""
        return identity in self._contents.stops

    def _read(self) -> _Contents:
        try:
            return msgspec.json.decode(read_plain(self._path, MOST_BYTES), type=_Contents)
        except FileNotFoundError:
            return _Contents()
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            aside = self._path.with_name(f"{self._path.name}.damaged")
            log.warning(
                "%s cannot be read (%s): it is kept as %s, and no death is known", self._path, error, aside.name
            )
            with suppress(OSError):
                self._path.replace(aside)
            return _Contents()

    def _write(self, contents: _Contents) -> None:
        self._contents = contents
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(contents))
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): a restart forgets which prompts the server died of", self._path, error
            )
