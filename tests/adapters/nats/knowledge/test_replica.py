"""One node's copy of the bucket: old news, compare-and-set, and one probe at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.nats.knowledge.entries import Entry, Opened, Probing, Recovered, key_of, to_bytes
from adapters.nats.knowledge.probes import ANSWER, LEASE, UNUSED, Probes
from adapters.nats.knowledge.replica import Replica, Stored
from recovery.testing import VirtualClock

NOW = 1_800_000_000.0


class Bucket:
    """A bucket in memory: writes yield before they compare, so that two nodes can be at it."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}
        self.writes = 0

    async def latest(self, key: str) -> Stored | None:
        return self.stored.get(key)

    async def write(self, key: str, data: bytes, *, expected: int, lifetime: int) -> int | None:
        await asyncio.sleep(0)
        before = self.stored.get(key)
        if expected != (0 if before is None else before.revision):
            return None
        self.writes += 1
        self.stored[key] = Stored(key, self.writes, data)
        return self.writes


class Node:
    def __init__(self, name: str, bucket: Bucket) -> None:
        self.about: dict[str, Any] = {"operation": "download", "node": name, "run": name}
        self.learnt: list[Entry] = []
        self.replica = Replica(bucket, lambda: NOW, lambda entry, _: self.learnt.append(entry))

    def opened(self, after: float, times: int = 1) -> Opened:
        return Opened(**self.about, until=NOW + after, times=times)

    async def offer(self, news: Entry, known: int = 0) -> bool:
        return await self.replica.offer(key_of(news), news, known)


def test_of_many_nodes_that_claim_a_probe_at_once_one_may() -> None:
    bucket = Bucket()
    nodes = [Node(f"gpu-{number}", bucket) for number in range(8)]

    async def main() -> list[bool]:
        await nodes[0].offer(nodes[0].opened(0.1, times=3))
        return await asyncio.gather(*(node.offer(Probing(**node.about, until=0.0)) for node in nodes))

    assert sum(asyncio.run(main())) == 1
    assert bucket.writes == 2
    probe = next(entry for node in nodes for entry in node.learnt if isinstance(entry, Probing))
    assert (probe.until, probe.times) == (NOW + LEASE, 3)


def test_the_longest_break_of_many_nodes_stands_in_any_order() -> None:
    bucket = Bucket()
    nodes = [Node(f"gpu-{number}", bucket) for number in range(6)]

    async def main() -> None:
        await asyncio.gather(*(node.offer(node.opened(10.0 * number + 10.0)) for number, node in enumerate(nodes)))

    asyncio.run(main())
    (stored,) = bucket.stored.values()
    assert b'"gpu-5"' in stored.data


def test_old_news_are_ignored() -> None:
    node, other = Node("gpu-a", Bucket()), Node("gpu-b", Bucket())
    late, early = other.opened(60.0, times=2), other.opened(30.0)
    key = key_of(late)
    node.replica.receive(Stored(key, 7, to_bytes(late)))
    node.replica.receive(Stored(key, 6, to_bytes(early)))
    node.replica.receive(Stored(key, 7, to_bytes(late)))
    assert node.learnt == [late]
    assert node.replica.entry(key) == late


def test_an_entry_that_the_servers_deleted_is_written_again() -> None:
    bucket = Bucket()
    node = Node("gpu-a", bucket)

    async def main() -> None:
        await node.offer(node.opened(10.0))
        bucket.stored.clear()
        assert await node.offer(node.opened(20.0))

    asyncio.run(main())


def test_a_recovery_that_did_not_know_the_latest_break_is_not_told() -> None:
    bucket = Bucket()
    node, other = Node("gpu-a", bucket), Node("gpu-b", bucket)

    async def main() -> None:
        await other.offer(other.opened(30.0))
        (stored,) = bucket.stored.values()
        node.replica.receive(stored)
        assert not await node.offer(Recovered(**node.about), known=0)
        assert await node.offer(Recovered(**node.about), known=1)

    asyncio.run(main())


def test_a_refused_entry_is_counted() -> None:
    node = Node("gpu-a", Bucket())
    node.replica.receive(Stored("circuit.download.=", 1, b"{}"))
    assert node.replica.refused == 1
    assert node.replica.entry("circuit.download.=") is None


def probes() -> tuple[Probes, VirtualClock, list[tuple[str, str]]]:
    clock, claimed = VirtualClock(), list[tuple[str, str]]()
    return Probes(clock, lambda *part: claimed.append(part)), clock, claimed


def test_a_call_waits_for_the_right_to_probe_and_asks_once() -> None:
    asked, clock, claimed = probes()
    assert asked.ask("download", "host") == ANSWER
    clock.advance(0.4)
    assert asked.ask("download", "host") == pytest.approx(ANSWER - 0.4)
    assert claimed == [("download", "host")]
    assert asked.granted("download", "host")
    assert asked.ask("download", "host") == 0.0


def test_a_call_probes_where_the_servers_do_not_answer() -> None:
    asked, clock, _ = probes()
    asked.ask("download", "host")
    clock.advance(ANSWER)
    assert asked.ask("download", "host") == 0.0


def test_the_right_to_probe_ends_with_its_lease_unless_it_is_prolonged() -> None:
    asked, clock, claimed = probes()
    asked.ask("download", "host")
    asked.granted("download", "host")
    clock.advance(LEASE - 1.0)
    assert not asked.granted("download", "host")  # it had it before
    clock.advance(LEASE - 1.0)
    assert asked.ask("download", "host") == 0.0
    clock.advance(1.0)
    assert asked.ask("download", "host") == ANSWER
    assert len(claimed) == 2


def test_a_right_to_probe_is_unused_after_a_while() -> None:
    asked, clock, _ = probes()
    asked.granted("download", "host")
    assert not asked.is_unused("download", "host")
    clock.advance(UNUSED + 0.1)
    assert asked.is_unused("download", "host")
    assert asked.end("download", "host")
    assert not asked.end("download", "host")
