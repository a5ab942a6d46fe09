"""The results of calls as JSON, and back by the annotation of the function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from recovery.serialization.annotations import Hints, hints_of, name_made, names_around, resolved, signature_of
from recovery.serialization.reading import built
from recovery.serialization.tags import TAG_START
from recovery.serialization.writing import MAX_BYTES, Subject, plain, written

RESULT = Subject("the result", "annotate the function's result with {}", "return plain data")


def encoded(value: object, hints: Hints = (), subject: Subject = RESULT) -> bytes:
    """*value* as JSON.

    Args:
        value: What to write.
        hints: What its annotation says.
        subject: How messages speak of it.

    Raises:
        ValueError: It would not come back exactly as it is, or takes more than 1 MiB. The message says what it is and
            what to do.
    """
    data = None if name_made(hints) else plain(value)
    data = msgspec.json.encode(written(value, hints, subject)) if data is None else data
    if len(data) > MAX_BYTES:
        raise ValueError(f"{subject.name} takes {len(data)} bytes of JSON, more than {MAX_BYTES}: keep it in a file")
    return data


def decoded(data: bytes | msgspec.Raw, hints: Hints = ()) -> Any:
    """The value that ``encoded`` was given, with the same hints.

    Raises:
        ValueError: It is no JSON that ``encoded`` returns, or does not fit the hints.
    """
    try:
        node = msgspec.json.decode(data)
        return built(node, hints) if TAG_START in bytes(data) or name_made(hints) else node
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


class ResultCodec:
    """Writes and reads what *function* returns. Its annotation is evaluated when it is first needed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._made: Hints | None = None

    def encoded(self, result: object) -> bytes:
        """*result* as JSON. Raises ValueError as ``encoded`` does."""
        return encoded(result, self._hints)

    def decoded(self, data: bytes | msgspec.Raw) -> Any:
        """The result that was encoded.

        Raises:
            ValueError: It does not fit what is annotated now.
        """
        try:
            return decoded(data, self._hints)
        except ValueError as error:
            cure = "give the operation another version if its result has changed"
            raise ValueError(f"a recorded result cannot be read back: {error}; {cure}") from error

    @property
    def _hints(self) -> Hints:
        if self._made is None:
            annotation = signature_of(self._function).return_annotation
            self._made = hints_of(resolved(annotation, names_around(self._function)))
        return self._made
