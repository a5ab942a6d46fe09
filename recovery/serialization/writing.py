"""Values to JSON with tags. What would not come back exactly is refused, with what to do about it."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from datetime import timezone
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from recovery.serialization.annotations import (
    Hints,
    element_hints,
    entry_hints,
    field_hints,
    field_names,
    fits,
    is_made,
    name_of,
    names_of,
)
from recovery.serialization.equality import is_same
from recovery.serialization.reading import built
from recovery.serialization.tags import ATOMS, EXACT, LEAVES, TAG_START, is_tag

MAX_BYTES = 1024 * 1024
"""Bytes that the arguments, or the result, of one call may take in the journal."""


class Subject(NamedTuple):
    """How messages speak of a value: its name, how a class gets into its annotation, and what to do otherwise."""

    name: str
    annotate: str
    advice: str


class _RefusedError(ValueError):
    """*value* cannot be written."""

    def __init__(self, value: object, why: str, *, unannotated: bool = False) -> None:
        super().__init__(why)
        self.value = value
        self.is_unannotated = unannotated


def plain(value: object) -> bytes | None:
    """*value* as JSON if it needs no tag and comes back exactly; else ``None``. Most arguments need nothing else."""
    try:
        data = msgspec.json.encode(value)
        return data if TAG_START not in data and is_same(value, msgspec.json.decode(data)) else None
    except Exception:  # foreign classes may raise anything; ``written`` says what
        return None


def written(value: object, hints: Hints, subject: Subject) -> Any:
    """*value* as JSON can hold it, with tags; it is read back and compared. Arguments and errors as of ``encoded``."""
    changed = f"{subject.name} is {name_of(value)} that would come back changed: {subject.advice}"
    try:
        node = _node(value, hints)
        is_unchanged = is_same(value, built(msgspec.json.decode(msgspec.json.encode(node)), hints))
    except _RefusedError as refused:
        raise ValueError(_message(value, subject, refused)) from refused
    except RecursionError as error:
        too_deep = f"nested too deeply, or holds itself: {subject.advice}"
        raise ValueError(f"{subject.name} is {name_of(value)} that is {too_deep}") from error
    except Exception as error:  # foreign classes may raise anything; the call continues
        raise ValueError(f"{changed} ({type(error).__name__}: {error})") from error
    if not is_unchanged:
        raise ValueError(changed)
    return node


def canonical(node: Any) -> Any:
    """*node*, which ``written`` returned, the same for equal sets and for dicts of equal entries."""
    if type(node) is list:
        return [canonical(one) for one in node]
    if type(node) is not dict:
        return node
    node = {key: canonical(one) for key, one in node.items()}
    if is_tag(node):
        ((tag, content),) = node.items()
        if tag in ("$set", "$frozenset", "$dict"):
            content.sort(key=functools.partial(msgspec.json.encode, order="sorted"))
    return node


def _message(value: object, subject: Subject, refused: _RefusedError) -> str:
    held = refused.value is not value
    kind = names_of((type(refused.value),))
    why = str(refused)
    if refused.is_unannotated:
        cure = f"name {kind} in the annotation of what holds it" if held else subject.annotate.format(kind)
        why = f": {cure}, so that it can be read back"
    elif not why:
        why = f", which cannot be journalled: {subject.advice}"
    holder = f"{name_of(value)} that holds " if held else ""
    return f"{subject.name} is {holder}{name_of(refused.value)}{why}"


def _node(value: Any, hints: Hints) -> Any:
    kind = type(value)
    if not fits(value, hints):
        raise _RefusedError(value, f" where {names_of(hints)} is annotated: pass that, or change the annotation")
    if kind is str:
        return _text(value)
    if kind is float and not math.isfinite(value):
        raise _RefusedError(value, f" that is {value}, which JSON cannot hold: use None or a text")
    if kind in ATOMS:
        return value
    if kind is dict:
        return _dict_node(value, hints)
    if kind is list:
        return _nodes(value, hints, kind)
    if kind in (tuple, set, frozenset):
        return {f"${kind.__name__}": _nodes(tuple(value), hints, kind)}
    if kind in LEAVES:
        zone = getattr(value, "tzinfo", None)
        if zone is not None and type(zone) is not timezone:
            raise _RefusedError(value, f" with {name_of(zone)}, which cannot be journalled: convert it to UTC")
        tag, write, _ = LEAVES[kind]
        return {tag: write(value)}
    if not is_made(kind):
        base = next((names_of((one,)) for one in EXACT if isinstance(value, one)), None)
        raise _RefusedError(value, f", which would come back as {base}: pass {base}(...) of it" if base else "")
    if kind not in hints:
        raise _RefusedError(value, "", unannotated=True)
    if isinstance(value, Enum):
        return {"$enum": _node(value.value, ())}
    annotated = field_hints(kind)
    return {"$object": {name: _node(getattr(value, name), annotated.get(name, ())) for name in field_names(kind) or ()}}


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _RefusedError(value, " with a lone surrogate, which JSON cannot hold: use os.fsencode() of it") from None
    return value


def _nodes(values: Sequence[Any], hints: Hints, kind: type) -> list[Any]:
    return [_node(one, each) for one, each in zip(values, element_hints(hints, kind, len(values)), strict=True)]


def _dict_node(value: dict[Any, Any], hints: Hints) -> dict[str, Any]:
    of_keys, of_values = entry_hints(hints)
    pairs = [[_node(key, of_keys), _node(one, of_values)] for key, one in value.items()]
    return {"$dict": pairs} if is_tag(value) or any(type(key) is not str for key in value) else dict(pairs)
