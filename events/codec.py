"""Facts as bytes: one JSON object each, its type in the member ``fact``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

import msgspec

from events.errors import CodecError
from events.event import Fact
from events.kinds import FACTS
from events.operation_events import OperationFailed

WIRE_FACTS: tuple[type[Fact], ...] = tuple(fact for fact in FACTS if fact is not OperationFailed)
"""The facts that may leave the process: all but the one that holds a live exception."""

_wire_facts = frozenset(WIRE_FACTS)
_encoder = msgspec.json.Encoder()
if TYPE_CHECKING:
    _decoder: msgspec.json.Decoder[Fact]
else:
    _decoder = msgspec.json.Decoder(Union[WIRE_FACTS])  # noqa: UP007  # a union made from a tuple has no other spelling


def encode(fact: Fact) -> bytes:
    """*fact* as UTF-8 JSON.

    Raises CodecError for ``OperationFailed``, which stays in its process, for a kind that ``decode`` does not know, and
    for what JSON lacks: text that is no Unicode, and numbers that are not finite.
    """
    if type(fact) not in _wire_facts:
        why = "it holds a live exception" if isinstance(fact, OperationFailed) else "nobody could decode it"
        raise CodecError(f"{type(fact).__name__} cannot leave the process: {why}")
    try:
        data = _encoder.encode(fact)
    except (UnicodeEncodeError, TypeError) as error:
        raise CodecError(f"{type(fact).__name__} cannot be written: {error}") from error
    # What msgspec makes of numbers that are not finite. A null that was meant comes back as it was.
    if b":null" in data and decode(data) != fact:
        raise CodecError(f"{type(fact).__name__} cannot be written: JSON has no such number: {fact}")
    return data


def decode(data: bytes | str) -> Fact:
    """The fact that *data* holds. Raises CodecError, saying where it is wrong, if it holds none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CodecError(f"not a fact: {error}") from error
