"""Facts as bytes: one JSON object each, its type in the member ``fact``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

import msgspec

from events.errors import CodecError
from events.facts import FACTS, Fact, OperationFailed

WIRE_FACTS: tuple[type[Fact], ...] = tuple(fact for fact in FACTS if fact is not OperationFailed)
"""The facts that may leave the process: all but the one that holds a live exception."""

_encoder = msgspec.json.Encoder()
if TYPE_CHECKING:
    _decoder: msgspec.json.Decoder[Fact]
else:
    _decoder = msgspec.json.Decoder(Union[WIRE_FACTS])  # noqa: UP007  # a union made from a tuple has no other spelling


def encode(fact: Fact) -> bytes:
    """*fact* as UTF-8 JSON. Raises CodecError for ``OperationFailed``, which stays in its process."""
    if isinstance(fact, OperationFailed):
        raise CodecError("OperationFailed holds a live exception and cannot leave the process")
    return _encoder.encode(fact)


def decode(data: bytes | str) -> Fact:
    """The fact that *data* holds. Raises CodecError, saying where it is wrong, if it holds none."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CodecError(f"not a fact: {error}") from error
