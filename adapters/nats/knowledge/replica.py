"""``Replica``: the entries of the shared bucket as one node knows them, and its writes, which compare and set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from adapters.nats.knowledge.entries import Entry, Opened, Probing, from_bytes, is_over, lifetime, merged, to_bytes
from adapters.nats.knowledge.probes import LEASE

TRIES = 8
"""Writes of one entry, each after a read, before its news are dropped."""


class Stored(NamedTuple):
    """What the bucket has under *key*; *revision* grows with each write to the bucket."""

    key: str
    revision: int
    data: bytes


class Bucket(Protocol):
    """Where the entries are kept (``adapters.nats.knowledge.bucket``)."""

    async def latest(self, key: str) -> Stored | None:
        """The entry of *key*; ``None`` for none."""

    async def write(self, key: str, data: bytes, *, expected: int, lifetime: int) -> int | None:
        """Write *data* if the revision of *key* is *expected*, 0 for none; the new revision, ``None`` if it is not."""


class Replica:
    """What one node knows of the bucket. Each entry has a revision, and only a later one takes its place.

    Args:
        bucket: The bucket.
        now: Reads the servers' clock.
        learn: Gets each entry that is new here, and the one before.
    """

    def __init__(self, bucket: Bucket, now: Callable[[], float], learn: Callable[[Entry, Entry | None], None]) -> None:
        self.refused = 0
        """Entries that were too long or of another form."""
        self._bucket, self._now, self._learn = bucket, now, learn
        self._entries: dict[str, tuple[int, Entry]] = {}

    def revision(self, key: str) -> int:
        """The revision of *key* that is known here; 0 for none."""
        return self._entries[key][0] if key in self._entries else 0

    def entry(self, key: str) -> Entry | None:
        """The entry of *key*; ``None`` for none."""
        return self._entries[key][1] if key in self._entries else None

    def probes(self) -> list[Probing]:
        """The probes that nodes say they make."""
        return [entry for _, entry in self._entries.values() if isinstance(entry, Probing)]

    def clear(self) -> None:
        """Forget everything: the bucket is another one."""
        self._entries.clear()

    def forget(self, now: float) -> None:
        """Forget what nobody needs any more."""
        for key, (_, entry) in list(self._entries.items()):
            if is_over(entry, now):
                del self._entries[key]

    def receive(self, stored: Stored) -> None:
        """Take over what the bucket has, unless it is old news."""
        if stored.revision <= self.revision(stored.key):
            return
        entry, before = from_bytes(stored.key, stored.data), self.entry(stored.key)
        if entry is None:
            self.refused += 1
            return
        self._entries[stored.key] = stored.revision, entry
        self._learn(entry, before)

    async def offer(self, key: str, news: Entry, known: int) -> bool:
        """Write *news*, unless what the bucket has stands. Returns whether *news* stands.

        Args:
            key: Its key.
            news: The entry to write.
            known: The revision that was known here when the news happened.

        Raises:
            ValueError: It is too long to be told.
        """
        for _ in range(TRIES):
            revision, now = self.revision(key), self._now()
            theirs = self.entry(key)
            written = merged(_leased(news, theirs, now), theirs, now, knew=revision == known)
            if written is None:
                return False
            data, lasts = to_bytes(written), lifetime(written, now)
            new = await self._bucket.write(key, data, expected=revision, lifetime=lasts)
            if new is not None:
                if new > self.revision(key):
                    self._entries[key] = new, written
                return True
            stored = await self._bucket.latest(key)
            if stored is None:
                self._entries.pop(key, None)
            else:
                self.receive(stored)
        return False


def _leased(news: Entry, theirs: Entry | None, now: float) -> Entry:
    """*news*; those of a probe with its lease from *now* on, and with the break that it ends."""
    if not isinstance(news, Probing):
        return news
    news = msgspec.structs.replace(news, until=now + LEASE)
    if not isinstance(theirs, Opened | Probing):
        return news
    return msgspec.structs.replace(news, times=theirs.times, category=theirs.category, cause=theirs.cause)
