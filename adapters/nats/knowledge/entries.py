"""What the nodes of a cluster tell each other, and which of two entries stands. Pure: times are arguments.

Each entry has one key of the bucket. Times are seconds since 1970 on the servers' clock.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, TypeAlias

import msgspec

from adapters.nats.names import ANY, MAX_KEY, encode
from events.circuit_events import CircuitClosed, CircuitOpened
from events.evidence import Category
from events.operation_events import FailureClassified
from recovery.redact import brief

MAX_ENTRY = 4096
"""Bytes of an entry; a longer one is not told, and refused."""

MAX_CAUSE = 300
"""Characters of a cause that are told."""

KEPT = 3600.0
"""Seconds for which an entry is kept after its break, its probe or its latest retry."""

LATE = 0.25
"""Seconds by which a node's idea of the servers' clock may be wrong: a break that ends within them is over."""


class Told(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag=True):
    """What every entry says.

    Args:
        operation: The name of the operation.
        key: Its key; "" for the operation as a whole.
        node: The node that wrote it.
        run: The run of that node: one that starts again learns what it knew.
    """

    operation: str
    key: str = ""
    node: str
    run: str


class Opened(Told, frozen=True, kw_only=True, tag="opened"):
    """A circuit is open until then. The other fields are those of ``CircuitOpened``."""

    until: float
    failures: int = 0
    times: int = 1
    category: Category | None = None
    cause: str = ""


class Probing(Told, frozen=True, kw_only=True, tag="probing"):
    """The node probes. It says so again while the probe lasts; *until* then no other node probes.

    *times*, *category* and *cause* are those of the break that it ends.
    """

    until: float
    times: int = 1
    category: Category | None = None
    cause: str = ""


class Recovered(Told, frozen=True, kw_only=True, tag="recovered"):
    """The probe of the node has closed the circuit."""


class Paused(Told, frozen=True, kw_only=True, tag="paused"):
    """A server wants no call until then."""

    until: float


class Used(Told, frozen=True, kw_only=True, tag="used"):
    """What the run has used of a retry budget.

    Args:
        taken: The tokens of its retries.
        successes: Its successes.
        tokens: The tokens that it had left.
        at: When that was.
    """

    taken: int
    successes: int
    tokens: float
    at: float


Entry: TypeAlias = Opened | Probing | Recovered | Paused | Used

KINDS = {Opened: "circuit", Probing: "circuit", Recovered: "circuit", Paused: "pause", Used: "budget"}
"""With what the keys of the entries begin: entries of one kind and part replace each other."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def key_of(entry: Entry) -> str:
    """The key of *entry* in the bucket: a budget has one for each node, the others one for all.

    A part whose name is too long has a digest in its place: the entry says what it is of.
    """
    tokens = [KINDS[type(entry)], _token(entry.operation), _token(entry.key)]
    return ".".join([*tokens, _token(entry.node)] if isinstance(entry, Used) else tokens)


def _token(text: str) -> str:
    if not text:
        return ANY
    text = text.encode(errors="replace").decode()  # one with a lone surrogate has a key, and cannot be told
    token = encode(text) if len(text) <= MAX_KEY else text
    return token if len(token) <= MAX_KEY else f"=={hashlib.sha256(text.encode()).hexdigest()[:32]}"


def to_bytes(entry: Entry) -> bytes:
    """*entry* as JSON.

    Raises:
        ValueError: It is too long to be told.
    """
    data = _encoder.encode(entry)
    if len(data) > MAX_ENTRY:
        raise ValueError(f"an entry of {len(data)} bytes is not told: {MAX_ENTRY} are allowed")
    return data


def from_bytes(key: str, data: bytes) -> Entry | None:
    """The entry that *data* is, ``None`` for one that is too long, of another form or not of *key*."""
    if len(data) > MAX_ENTRY:
        return None
    try:
        entry = _decoder.decode(data)
        is_sound = key_of(entry) == key and all(map(math.isfinite, _numbers(entry)))
    except (msgspec.DecodeError, UnicodeEncodeError, ValueError):
        return None
    return entry if is_sound else None


def _numbers(entry: Entry) -> tuple[float, ...]:
    match entry:
        case Used():
            return entry.at, entry.tokens
        case Recovered():
            return ()
    return (entry.until,)


def lifetime(entry: Entry, now: float) -> int:
    """Whole seconds after which the servers delete *entry*, at least one."""
    match entry:
        case Opened(until=until) | Probing(until=until):
            left = until - now + KEPT
        case Paused(until=until):
            left = until - now
        case _:
            left = KEPT
    return max(math.ceil(min(left, 10 * 86_400.0)), 1)


def merged(mine: Entry, theirs: Entry | None, now: float, *, knew: bool = False) -> Entry | None:
    """What takes the place of *theirs* now that a node has *mine* to tell; ``None`` if *theirs* stands.

    Args:
        mine: The news.
        theirs: The entry of the same key in the bucket; None for none.
        now: The time on the servers' clock.
        knew: Whether the node knew *theirs* when *mine* happened.
    """
    is_own = theirs is not None and theirs.run == mine.run
    match mine, theirs:
        case Used(), _:
            return mine
        case Paused(until=until), Paused(until=known):
            return mine if until > known + LATE else None
        case Paused(until=until), _:
            return mine if until > now else None
        case Opened(), Probing(until=lease):  # the probe failed, or was given back, or its node is gone
            return mine if is_own or lease <= now else None
        case Opened(until=until, times=times), Opened():
            return mine if times > theirs.times or (times == theirs.times and until > theirs.until + LATE) else None
        case Opened(until=until), _:
            return mine if until > now else None  # else it was told too late
        case Probing(), Opened(until=until):
            return mine if until <= now + LATE else None
        case Probing(), Probing(until=lease):
            return mine if is_own or lease <= now else None
        case Probing(), None:
            return mine
        case (Probing(), Recovered()) | (Recovered(), Opened() | Probing()):
            # A circuit that recovered may have opened here again, for a break that was over before it was told.
            return mine if is_own or knew else None
    return None


def is_over(entry: Entry, now: float) -> bool:
    """Whether nobody needs *entry* any more."""
    match entry:
        case Paused(until=until):
            return until <= now
        case Opened(until=until) | Probing(until=until) | Used(at=until):
            return until + KEPT <= now
    return False


def news_of_circuit(event: CircuitOpened | CircuitClosed, about: dict[str, Any], offset: float) -> Entry | None:
    """What *event* is for the cluster; ``None`` for what the cluster has told, or a person has done here.

    Args:
        event: What happened to a circuit.
        about: What every entry says of its node and part.
        offset: Seconds by which the servers' clock is ahead of that of the event.
    """
    if event.node:
        return None
    if isinstance(event, CircuitClosed):
        return Recovered(**about) if event.why == "recovered" else None
    if event.forced or event.metrics_only:
        return None
    return Opened(
        **about, until=event.at + event.after + offset, failures=event.failures, times=event.times,
        category=event.category, cause=brief(event.cause, MAX_CAUSE),
    )  # fmt: skip


def news_of_limit(failure: FailureClassified, about: dict[str, Any], offset: float) -> Paused | None:
    """The pause that a server asks for with *failure*; ``None`` for none. The arguments are as of a circuit's news."""
    if not failure.retry_after:
        return None
    return Paused(**about, until=failure.at + failure.retry_after + offset)


def released(entry: Probing, now: float, node: str, run: str) -> Opened:
    """*entry* once its probe is given up: any node may probe."""
    return Opened(
        operation=entry.operation, key=entry.key, node=node, run=run, until=now, times=entry.times,
        category=entry.category, cause=entry.cause,
    )  # fmt: skip


def newly_used(entry: Used, before: Used | None) -> tuple[int, int]:
    """The tokens and successes of *entry* that *before*, the entry of the same key, did not count.

    Of a run that tells for the first time all tokens count, and no successes: it had most of them with a full budget.
    """
    if before is None or before.run != entry.run:
        return entry.taken, 0
    return entry.taken - before.taken, max(entry.successes - before.successes, 0)
