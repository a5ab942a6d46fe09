"""``Stream``: one stream of the servers, as it is read: its messages in order, the latest of a subject, its state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from adapters.nats.errors import ClusterError, UnreachableError
from adapters.nats.link import Link

PAGE = 500
"""Messages that are read at once."""

NOT_FOUND = 10037
"""The servers' code for a subject without a message."""


class Refusal(msgspec.Struct, frozen=True):
    """Why the servers refuse something."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class StreamMessage(msgspec.Struct, frozen=True):
    """A message in a stream: its subject, its place, and what it holds."""

    subject: str
    seq: int
    data: bytes = b""


class _Counts(msgspec.Struct, frozen=True):
    last_seq: int = 0


class StreamState(msgspec.Struct, frozen=True):
    """How a stream stands: the time of the servers in seconds since the epoch, when it was made, its last place."""

    time: float
    created: str
    last: int


class _Answer(msgspec.Struct, frozen=True):
    message: StreamMessage | None = None
    error: Refusal | None = None
    ts: datetime | None = None
    created: str = ""
    state: _Counts = _Counts()


class Stream:
    """The stream *name*, over *link*. Each method raises ``UnreachableError`` if no server answers in time."""

    def __init__(self, link: Link, name: str) -> None:
        self._link, self._name = link, name

    async def state(self) -> StreamState:
        """How it stands now, as its leader says. Raises ClusterError if there is none."""
        answer = await self._asked("INFO")
        if answer.ts is None:
            raise UnreachableError("the servers do not tell their time")
        return StreamState(answer.ts.timestamp(), answer.created, answer.state.last_seq)

    async def latest(self, subject: str) -> StreamMessage | None:
        """The latest message of *subject*, as the leader has it: another server may not know it yet."""
        return (await self._asked("MSG.GET", msgspec.json.encode({"last_by_subj": subject}))).message

    async def latest_anywhere(self, subject: str) -> StreamMessage | None:
        """The latest message of *subject*, as any server has it: a user who may read alone may ask all of them."""
        wanted = msgspec.json.encode({"last_by_subj": subject})
        return self._direct(await self._link.ask(f"$JS.API.DIRECT.GET.{self._name}", wanted))

    async def after(self, seq: int, subject: str) -> AsyncIterator[StreamMessage]:
        """The messages on *subject*, which may hold wildcards, behind the place *seq*, in their order."""
        is_page = True
        while is_page:
            is_page = False
            for message in await self._page(seq, subject):
                is_page, seq = True, message.seq
                yield message

    async def _page(self, seq: int, subject: str) -> list[StreamMessage]:
        wanted = msgspec.json.encode({"seq": seq + 1, "next_by_subj": subject, "batch": PAGE})
        found: list[StreamMessage] = []
        async with aclosing(self._link.ask_many(f"$JS.API.DIRECT.GET.{self._name}", wanted)) as answers:
            async for answer in answers:
                if (message := self._direct(answer)) is None:
                    break
                found.append(message)
        return found

    def _direct(self, answer: Any) -> StreamMessage | None:
        """The message in an *answer* of nats-py; None at the end of a page (204), and if there is none (404)."""
        headers = answer.headers or {}
        if "Nats-Sequence" in headers:
            return StreamMessage(headers["Nats-Subject"], int(headers["Nats-Sequence"]), answer.data)
        if headers.get("Status") not in ("204", "404"):
            raise UnreachableError(f"the servers do not read {self._name}: {headers.get('Description', 'no reason')}")
        return None

    async def _asked(self, verb: str, data: bytes = b"") -> _Answer:
        subject = f"$JS.API.STREAM.{verb}.{self._name}"
        answer = msgspec.json.decode((await self._link.ask(subject, data)).data, type=_Answer)
        if answer.error is None or answer.error.err_code == NOT_FOUND:
            return answer
        kind = UnreachableError if answer.error.code == 503 else ClusterError
        raise kind(f"the servers refuse {subject}: {answer.error.description}")
