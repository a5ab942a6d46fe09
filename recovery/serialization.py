"""Arguments and results as JSON: a value that would not come back exactly as it was is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from recovery.redact import LEAST_LITERAL, hide

MAX_BYTES = 1024 * 1024
"""Bytes that the arguments, or the result, of one call may take in the journal."""

MARK = "$secret"
"""The key that marks a reference to a secret in JSON."""


class Secret(msgspec.Struct, frozen=True, rename={"reference": MARK}):
    """A secret argument of a resumable call: the journal gets the reference, ``reveal()`` returns the value.

    Args:
        reference: "env:NAME" for an environment variable, or "file:PATH" for a file, whose text is stripped of white
            space at both ends.

    Raises:
        ValueError: Any other reference.
    """

    reference: str

    def __post_init__(self) -> None:
        kind, _, where = self.reference.partition(":") if isinstance(self.reference, str) else ("", "", "")
        if kind not in ("env", "file") or not where:
            raise ValueError(f"a reference to a secret is env:NAME or file:PATH, not {self.reference!r:.40}")

    def reveal(self) -> str:
        """The value, which is redacted from then on in what is journalled, logged and printed.

        Raises:
            LookupError: There is no such environment variable.
            OSError: The file cannot be read.
        """
        kind, _, where = self.reference.partition(":")
        if kind == "env" and where not in os.environ:
            raise LookupError(f"the environment has no {where}")
        secret = os.environ[where] if kind == "env" else Path(where).read_text(encoding="utf-8").strip()
        if len(secret) >= LEAST_LITERAL:
            hide(secret)
        return secret


def encoded(value: object) -> bytes:
    """*value* as JSON. Raises ValueError if it would not come back as it is, or takes more than 1 MiB.

    JSON turns a NaN into null, int keys into text and tuples into lists: a call resumed with such arguments would be
    another call.
    """
    try:
        data = msgspec.json.encode(value)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes are more than {MAX_BYTES}")
        is_same = _is_same(value, decoded(data))
    except Exception as error:  # foreign classes may raise anything; the call continues
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not is_same:
        raise ValueError("it would come back changed")
    return data


def decoded(data: bytes | msgspec.Raw) -> Any:
    """The value that ``encoded`` was given. Raises msgspec.DecodeError for other data."""
    value = msgspec.json.decode(data)
    return _with_secrets(value) if MARK.encode() in bytes(data) else value


def decoded_arguments(data: bytes) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a call, ``[args, kwargs]``. Raises msgspec.DecodeError or ValueError for other data."""
    args, kwargs = msgspec.convert(decoded(data), tuple[list[Any], dict[str, Any]])
    return args, kwargs


def encoded_or_none(value: object, warn_once: Callable[[str], object]) -> bytes | None:
    """As ``encoded``; ``None`` for a value that is refused, after *warn_once* is called with the reason."""
    try:
        return encoded(value)
    except ValueError as error:
        warn_once(str(error))
        return None


def _with_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {MARK}:
            return Secret(value[MARK])
        return {key: _with_secrets(one) for key, one in value.items()}
    return [_with_secrets(one) for one in value] if isinstance(value, list) else value


def _is_same(one: object, other: object) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(
            type(key) is str and _is_same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other


class ArgumentCodec:
    """Stub."""

    def __init__(self, function: Callable[..., Any]) -> None:
        import inspect

        try:
            self._signature = inspect.signature(function)
        except ValueError:
            self._signature = None

    def encoded(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        return encoded([list(args), kwargs])

    def decoded(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = decoded_arguments(data)
        if self._signature is not None:
            try:
                self._signature.bind(*args, **kwargs)
            except TypeError as error:
                raise ValueError(str(error)) from None
        return tuple(args), kwargs

    def identity(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if self._signature is not None:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        encoded([list(args), kwargs])
        return msgspec.json.encode([args, kwargs], order="deterministic")
