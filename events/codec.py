"""Events as bytes: one JSON object each, its type in the member ``event``."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import msgspec

from events.errors import CodecError
from events.event import Event
from events.kinds import EVENTS
from events.operation_events import OperationFailed

WIRE_EVENTS: tuple[type[Event], ...] = tuple(event for event in EVENTS if event is not OperationFailed)
"""The events that may leave the process: all but the one that holds a live exception."""

_wire_events = frozenset(WIRE_EVENTS)
_encoder = msgspec.json.Encoder()


@functools.cache
def _decoder() -> msgspec.json.Decoder[Event]:  # when it is first needed: it takes milliseconds
    return msgspec.json.Decoder(functools.reduce(operator.or_, WIRE_EVENTS))


def encode(event: Event) -> bytes:
    """*event* as UTF-8 JSON.

    Args:
        event: Any event except ``OperationFailed``, which stays in its process.

    Raises:
        CodecError: A kind that ``decode`` does not know, or what JSON lacks: text that is no Unicode, numbers that are
            not finite.
    """
    if type(event) not in _wire_events:
        why = "it holds a live exception" if isinstance(event, OperationFailed) else "decode() does not know it"
        raise CodecError(f"{type(event).__name__} cannot leave the process: {why}")
    try:
        data = _encoder.encode(event)
    except (UnicodeEncodeError, TypeError) as error:
        raise CodecError(f"{type(event).__name__} cannot be written: {error}") from error
    # msgspec writes a number that is not finite as null. A null that was meant comes back as None.
    if b":null" in data and decode(data) != event:
        raise CodecError(f"{type(event).__name__} cannot be written: JSON has no such number: {event}")
    return data


def encode_all(events: Sequence[Event]) -> list[bytes] | None:
    """*events* as ``encode`` makes them, in a third of the time; ``None`` if one of them must be encoded alone.

    That is one which ``encode`` may refuse, or whose JSON may have several lines.
    """
    try:
        data = _encoder.encode_lines(events)
    except (UnicodeEncodeError, TypeError):
        return None
    bodies = data.split(b"\n")
    del bodies[-1]
    is_plain = len(bodies) == len(events) and b":null" not in data and _wire_events.issuperset(map(type, events))
    return bodies if is_plain else None


def decode(data: bytes | str) -> Event:
    """The event that *data* holds.

    Args:
        data: What ``encode`` has returned.

    Raises:
        CodecError: It holds none; the message says where it is wrong.
    """
    try:
        return _decoder().decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CodecError(f"not an event: {error}") from error
