"""How operations, keys and nodes become subjects and names of the servers, and come back. The only place for that.

A subject is a list of tokens with dots between them. ``encode`` makes a token of any text: letters, digits, ``-`` and
``_`` stay, every other byte of its UTF-8 becomes ``=`` and two digits. So distinct texts make distinct tokens.
"""

from __future__ import annotations

import secrets
from typing import Literal, TypeAlias

import msgspec

Priority: TypeAlias = Literal["high", "normal", "low"]
"""How urgent a call is."""

PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
"""The most urgent first."""

ANY = "="
"""The token of no node in particular: no text is encoded like that."""

MAX_NAME = 120
"""Bytes of the token of an operation, a node or a prefix."""

MAX_KEY = 240
"""Bytes of the token of an idempotency key."""

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

_OWN = ("-seen", "-events", "-shared", "-nodes")
"""What follows the prefix in the names of the other things of a cluster."""


class Name(msgspec.Struct, frozen=True):
    """What a call is called in a cluster.

    Args:
        operation: The name of its operation.
        key: Its idempotency key; "" for none.
        random: 16 hexadecimal digits that tell it from others, where it has no key; otherwise "".
    """

    operation: str
    key: str = ""
    random: str = ""

    @property
    def call(self) -> str:
        """The id of the call: ``render/order-17``, or ``render/~00112233aabbccdd`` without a key."""
        return f"{encode(self.operation)}/{encode(self.key) if self.key else f'~{self.random}'}"


class Lane(msgspec.Struct, frozen=True):
    """Where calls wait for a worker: those of one operation, one priority, and one node or any.

    Args:
        operation: The name of the operation.
        priority: How urgent its calls are.
        node: The only node that may run them; "" for any.
    """

    operation: str
    priority: Priority = "normal"
    node: str = ""

    @property
    def tokens(self) -> str:
        """Its part of a subject."""
        return f"{self.priority}.{encode(self.node) if self.node else ANY}.{encode(self.operation)}"

    @property
    def consumer(self) -> str:
        """The name of the consumer of its messages."""
        return self.tokens.replace(".", "~")

    @classmethod
    def of(cls, subject: str) -> Lane:
        """The lane of a queue message on *subject*; see ``Subjects.queue``.

        Raises:
            ValueError: It is no such subject.
        """
        _, kind, priority, node, operation, _ = subject.split(".")
        if kind != "queue" or priority not in PRIORITIES:
            raise ValueError(f"{subject!r} is no subject of a queue")
        return cls(decode(operation), priority, "" if node == ANY else decode(node))


def encode(text: str) -> str:
    """*text* as a token.

    Raises:
        ValueError: It is empty, or holds a lone surrogate, which has no UTF-8.
    """
    if not text:
        raise ValueError("an empty text makes no token of a subject")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{text[:40]!r} cannot be encoded: {error.reason}") from None
    return "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in data)


def decode(token: str) -> str:
    """The text of *token*.

    Raises:
        ValueError: *token* is not what ``encode`` makes.
    """
    data, rest = bytearray(), token
    while rest:
        if rest[0] != "=":
            data += rest[0].encode()
            rest = rest[1:]
        else:
            data += bytes.fromhex(rest[1:3])
            rest = rest[3:]
    text = data.decode()
    if not text or encode(text) != token:
        raise ValueError(f"{token!r} is no encoded name")
    return text


def name_of(operation: str, key: str = "") -> Name:
    """The name of a new call of *operation*: with its idempotency *key*, or, if that is "", with random digits.

    Raises:
        ValueError: One of them is too long for a subject.
    """
    checked("the name of the operation", operation)
    if key:
        checked(f"the idempotency key of a call of {operation}", key, MAX_KEY)
    return Name(operation, key, "" if key else secrets.token_hex(8))


def parse(call: str) -> Name:
    """The name of the call with the id *call*.

    Raises:
        ValueError: It is no id of a call of a cluster.
    """
    operation, _, rest = call.partition("/")
    try:
        if rest.startswith("~"):
            if len(rest) != 17 or not set(rest[1:]) <= set("0123456789abcdef"):
                raise ValueError(rest)
            return Name(decode(operation), random=rest[1:])
        return Name(decode(operation), decode(rest))
    except ValueError:
        raise ValueError(
            f"{call!r} is no id of a cluster's call: those look like render/order-17, as `recovery status` shows them"
        ) from None


def local_id(call: str, fence: int) -> str:
    """The id that *call* has on a node which holds it under *fence*."""
    return f"{call}@{fence}"


def claim_of(local: str) -> tuple[str, int]:
    """The id in the cluster, and the fence, of the call that is *local* on its node; "" and 0 for one of no cluster."""
    name, _, fence = local.removesuffix(" outcome").rpartition("@")
    if "/" not in name or len(name) > MAX_NAME + 1 + MAX_KEY or not fence.isdecimal():
        return "", 0
    try:
        parse(name)
        return name, int(fence)
    except ValueError:  # the id of a call of this node alone, which has any form
        return "", 0


def checked(what: str, name: str, limit: int = MAX_NAME) -> str:
    """The token of *name*, if it has at most *limit* bytes.

    Raises:
        ValueError: It is empty, or too long for a subject; the message begins with *what*.
    """
    if not name:
        raise ValueError(f"{what} is empty")
    token = encode(name)
    if len(token) > limit:
        raise ValueError(
            f"{what} makes {len(token)} bytes of a subject, and {limit} are allowed: pass a shorter one, a hash of it, "
            f"say, in place of {name[:40]!r}..."
        )
    return token


class Subjects(msgspec.Struct, frozen=True):
    """The subjects of a cluster.

    Args:
        prefix: Their first token, and the name of the stream: letters, digits, "-" and "_".

    Raises:
        ValueError: The prefix has something else, or is too long, or what another cluster has could be named the same.
    """

    prefix: str = "recovery"

    def __post_init__(self) -> None:
        """Distinct prefixes share nothing: no stream, no subject, no bucket."""
        prefix = self.prefix
        if not set(prefix.encode(errors="replace")) <= _PLAIN or prefix.startswith(("-", "_")) or prefix.endswith(_OWN):
            raise ValueError(
                f"{prefix[:40]!r} is no prefix of a cluster: it has letters, digits, - and _, begins with a letter or "
                f"a digit, and does not end with {', '.join(_OWN)}"
            )
        checked("the prefix of a cluster", prefix)

    def of(self, kind: Literal["call", "args", "saved", "result", "due"], call: str) -> str:
        """Where the *kind* of message of the call with the id *call* is kept."""
        return f"{self.prefix}.{kind}.{call.replace('/', '.')}"

    def queue(self, lane: Lane, call: str) -> str:
        """Where the call with the id *call* waits in *lane*."""
        return f"{self.prefix}.queue.{lane.tokens}.{call.rpartition('/')[2]}"

    def lane(self, lane: Lane) -> str:
        """All that waits in *lane*."""
        return f"{self.prefix}.queue.{lane.tokens}.*"

    def seen(self, call: str) -> str:
        """Where a change of the call with the id *call* is told."""
        return f"{self.prefix}-seen.call.{call.replace('/', '.')}"

    def call_of(self, subject: str) -> str:
        """The id of the call to which a message on *subject* belongs: the last two tokens name it."""
        return "/".join(subject.split(".")[-2:])
