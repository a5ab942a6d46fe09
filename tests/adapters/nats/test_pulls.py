"""A worker asks for messages of several queues: one whose server is silent does not keep it from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from adapters.nats import pulls
from adapters.nats.errors import UnreachableError
from adapters.nats.names import Lane, Subjects
from adapters.nats.pulls import Pulls

SILENT, FULL = Lane("render", "high"), Lane("render")


class Link:
    """Servers that answer for some queues at once: with a message, or that none waits there."""

    def __init__(self, answering: Sequence[Lane], *, are_empty: bool = False) -> None:
        self._are_empty = are_empty
        self.connection = SimpleNamespace(new_inbox=lambda: "inbox")
        self.asked: list[tuple[str, bytes]] = []
        self._answering = {lane.consumer: lane for lane in answering}
        self._got: Callable[[Any], Awaitable[None]] = lambda message: asyncio.sleep(0)

    @contextmanager
    def on_return(self, tell: Callable[[], None]) -> Iterator[None]:
        yield

    @asynccontextmanager
    async def subscribed(self, subject: str, got: Callable[[Any], Awaitable[None]]) -> AsyncIterator[None]:
        self._got = got
        yield

    async def deliver(self, message: Any) -> None:
        """Send *message*, which was asked for before."""
        await self._got(message)

    async def ask(self, subject: str, data: bytes) -> Any:
        return SimpleNamespace(data=b"{}")

    async def tell(self, subject: str, data: bytes, reply: str = "") -> None:
        self.asked.append((subject, data))
        lane = self._answering.get(subject.rpartition(".")[2])
        if lane is not None and self._are_empty:
            if data == pulls.NO_WAIT:
                await self._got(SimpleNamespace(subject=reply, reply="", headers={"Status": "404"}))
        elif lane is not None:
            await self._got(SimpleNamespace(subject=Subjects("p").queue(lane, "render/k"), reply="ack", headers=None))


def taken(answering: Sequence[Lane], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(pulls, "LOOKED_FOR", 0.01)

    async def take() -> Any:
        asking = Pulls(Link(answering), Subjects("p"), 30.0)  # type: ignore[arg-type]
        async with asking.running():
            return await asking.take([SILENT, FULL], 0.0)

    return asyncio.run(take())


def test_a_queue_whose_server_is_silent_does_not_keep_a_worker_from_the_others(monkeypatch: pytest.MonkeyPatch):
    assert taken([FULL], monkeypatch).subject == Subjects("p").queue(FULL, "render/k")


def test_servers_that_are_silent_for_all_queues_are_unreachable(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnreachableError, match="no server answers for the queue"):
        taken([], monkeypatch)


@pytest.mark.parametrize(("lease", "seconds"), [(30.0, 5.0), (6.0, 2.0)])
def test_no_request_waits_for_as_long_as_a_stopped_workers_call_is_its_own(lease: float, seconds: float):
    link = Link([FULL], are_empty=True)
    asking = Pulls(link, Subjects("p"), lease)  # type: ignore[arg-type]

    async def take() -> None:
        async with asking.running():
            assert await asking.take([FULL], 0.01) is None

    asyncio.run(take())
    waited = [msgspec.json.decode(data)["expires"] for _, data in link.asked if b"expires" in data]
    assert waited == [seconds * 1e9]
