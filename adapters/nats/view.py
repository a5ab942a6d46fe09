"""One view of a cluster: its status, why a call stands as it does, and what a person does with it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext, create_default_context

import msgspec

from adapters.journals.answering import Question
from adapters.journals.history import PastEvent
from adapters.journals.steering import Steered
from adapters.journals.why import Known, Why, why
from adapters.nats.board import Board, ClusterEvent, Node
from adapters.nats.engine import Engine
from adapters.nats.errors import ChangeRefusedError, ClusterError
from adapters.nats.record import CallRecord
from adapters.nats.status import (
    ClusterStatus,
    Listing,
    as_journal,
    call_status,
    explained,
    failure_of,
    last_seen,
    next_in_cluster,
)
from adapters.nats.steering import ClusterCommand, cancel, find, steer
from events.codec import decode
from events.errors import CodecError
from events.event import CallEvent
from events.operation_events import FailureClassified
from recovery.explain import shown
from recovery.redact import brief, redact

CONNECTED_WITHIN = 5.0
"""Seconds in which a command connects."""

DONE = ("succeeded", "cancelled")

_USER = re.compile(r"(?:^|(?<=://)|(?<=,))(?:(?!://)[^@])*@(?:[^,@]*@)*")
"""The user and the password of an address; a comma may be in the password, or between two addresses."""

ASKS = "It has no retries left: try it again? No gives it up."


class ClusterAddress(msgspec.Struct, frozen=True):
    """Where a cluster is.

    Args:
        url: The addresses of its servers, with commas between them; they may hold a user and a password.
        creds: A file with credentials; "" for none.
        prefix: The first token of its subjects.
        inbox: How the subjects of answers begin; None for what the user of *url* may have.
        tls: A folder with ca.pem, client.pem and client.key; "" for the authorities of the system.
        is_default: Whether the environment names it, so that commands need not.
    """

    url: str
    creds: str = ""
    prefix: str = "recovery"
    inbox: str | None = None
    tls: str = ""
    is_default: bool = False

    def __repr__(self) -> str:
        return f"<ClusterAddress: {self.shown}>"

    def trusted(self) -> SSLContext | None:
        """Which servers are trusted, and the certificate that they get; None for what Python does by itself.

        Raises:
            ClusterError: One of the files is missing, or is no certificate.
        """
        if not self.tls:
            return None
        folder = Path(self.tls)
        try:
            context = create_default_context(cafile=folder / "ca.pem")
            context.load_cert_chain(folder / "client.pem", folder / "client.key")
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"{brief(self.tls)} cannot be used for TLS ({error}): put ca.pem, client.pem and client.key there"
            ) from None
        return context

    @property
    def shown(self) -> str:
        """The address without user and password."""
        return brief(redact(_without_users(self.url)))

    @property
    def source(self) -> str:
        """What a command is told to find it; "" if it finds it by itself."""
        if self.is_default:
            return ""
        return f"--cluster={self.shown}"


class ClusterView:
    """A cluster, as one connection sees it.

    Args:
        engine: Its servers.
        board: What its nodes tell.
        address: Where it is.
    """

    def __init__(self, engine: Engine, board: Board, address: ClusterAddress) -> None:
        self.engine, self.board, self.address = engine, board, address

    async def status(self, *, show_all: bool = False) -> tuple[ClusterStatus, dict[str, CallRecord]]:
        """How it stands, and the records of the calls that are listed; *show_all* lists every call.

        Raises UnreachableError.
        """
        listing = Listing(show_all=show_all)
        async for one in self.engine.calls():
            listing.take(one.record)
        return listing.status(self.address.shown, await self.board.nodes(), await self.engine.now())

    async def why(self, text: str) -> tuple[Why, float]:
        """Why the call stands as it does that *text* names, and the time of the servers.

        Raises LookupError as ``find``, UnreachableError.
        """
        record = await find(self.engine, text)
        return await self.why_of(record)

    async def why_of(self, record: CallRecord) -> tuple[Why, float]:
        """Why the call of *record* stands as it does, and the time of the servers. Raises UnreachableError."""
        now = await self.engine.now()
        nodes = {one.node: one for one in await self.board.nodes()}
        events = [_past(one, record) for one in await self.board.events(record.call)]
        return explain_call(self.address, record, nodes, events, now), now

    async def whys(self, most: int) -> tuple[list[Why], int, float]:
        """Why calls are not done: of *most*, those first that are not over, the latest first; how many more there are,
        and the time of the servers. Raises UnreachableError.
        """  # fmt: skip
        status, records = await self.status()
        found = [record for record in records.values() if record.state not in DONE]
        found.sort(key=lambda record: (record.is_over, -record.updated))
        whys = [(await self.why_of(record))[0] for record in found[:most]]
        undone = sum(number for state, number in status.counts.items() if state not in DONE)
        return whys, max(undone - most, 0), status.at

    async def steer(self, text: str, command: ClusterCommand, *, by_id: bool = False) -> Steered:
        """Carry out *command* with the call that *text* names, or, *by_id*, whose id it is. Raises UnreachableError."""
        try:
            call = text if by_id else (await find(self.engine, text)).call
            if command.name == "cancel":
                record = await cancel(self.engine, self.board, call, command.why)
            else:
                record = await steer(self.engine, call, command.change)
        except (LookupError, ChangeRefusedError) as error:
            said = str(error.args[0])
            return Steered(command=command.name, call=text if by_id else "", name=redact(text), said=said)
        return Steered(command=command.name, call=call, is_done=True, taken=True, said=command.said(record))

    async def steer_all(self, calls: Sequence[str], command: ClusterCommand) -> list[Steered]:
        """Carry out *command* with each of *calls*, which are ids. Raises UnreachableError."""
        return [await self.steer(one, command, by_id=True) for one in calls]

    async def answer(self, question: str, value: object) -> Steered:
        """Answer what the call asks whose id *question* is, or has it as a part: True tries it again, False ends it.

        Raises LookupError, UnreachableError.
        """
        record = await find(self.engine, question)
        if not record.asks_person:
            raise LookupError(f"{record.call} asks nothing")
        return await self.steer(record.call, ClusterCommand(name="retry" if value else "give up"), by_id=True)

    async def questions(self) -> list[Question]:
        """The questions of calls that wait for a person: each is named by its call. Raises UnreachableError."""
        return [question_of(one.record) async for one in self.engine.calls() if one.record.asks_person]


def question_of(record: CallRecord) -> Question:
    """What the call of *record*, which has no retries left, asks a person."""
    about = explained(record)
    text = " ".join(filter(None, (about.plain, ASKS)))
    return Question(
        name=record.call,
        kind="confirm",
        choices=(),
        text=shown(text),
        link="",
        reason="",
        is_open=True,
        runs=(record.node,),
    )


def explain_call(
    address: ClusterAddress, record: CallRecord, nodes: dict[str, Node], events: Sequence[PastEvent], now: float
) -> Why:
    """Why the call of *record* stands as it does.

    Args:
        address: Where its cluster is.
        record: The call.
        nodes: The nodes of the cluster by their names.
        events: Its events, in time order.
        now: The time of the servers.
    """
    failures = tuple(past.event.brief for past in events if isinstance(past.event, FailureClassified))
    call = call_status(record)
    call = msgspec.structs.replace(call, failures=failures or call.failures)
    listing = Listing()
    listing.take(record)
    status, _ = listing.status(address.shown, nodes.values(), now)
    where = f"in the cluster at {address.shown}"
    if record.node and not record.is_over and record.state != "running":
        where = f"ran last on {last_seen(record.node, nodes, now)}, {where}"
    known = Known(
        failure=failure_of(record), about=explained(record), step=next_in_cluster(record, nodes, now), where=where
    )
    return why(call, as_journal(status), events, source=address.source, now=now, known=known)


def _past(told: ClusterEvent, record: CallRecord) -> PastEvent:
    """*told* as an event of a journal, of the call in the cluster, at the time of the servers."""
    event: CallEvent | None = None
    with suppress(CodecError):
        read = decode(bytes(told.event))
        if isinstance(read, CallEvent):
            event = msgspec.structs.replace(read, at=told.at, call=record.call)
    return PastEvent(at=told.at, pid=0, run=told.node, kind=told.kind, event=event)


def _without_users(urls: str) -> str:
    """*urls* without users and passwords, also where a password has one of ``@ / ? # ,`` as it is."""
    parted = (one.strip().rpartition("://") for one in _USER.sub("", urls).split(","))
    return ",".join(f"{scheme}{mark}{re.split('[/?#]', host)[0]}" for scheme, mark, host in parted)


@asynccontextmanager
async def open_view(address: ClusterAddress) -> AsyncIterator[ClusterView]:
    """Connect to the cluster at *address*.

    Raises:
        UnreachableError: No server answers, or it refuses this user.
        ModuleNotFoundError: The extra "nats" is not installed.
    """
    from adapters.nats.connection import connect  # here: it needs an extra

    urls = [one.strip() for one in address.url.split(",")]
    async with connect(
        urls,
        prefix=address.prefix,
        name="recovery",
        credentials=address.creds or None,
        inbox=address.inbox,
        tls=address.trusted(),
        within=CONNECTED_WITHIN,
    ) as link:
        yield ClusterView(link.engine, link.board, address)
