"""What a table of a TOML file may say of a struct: its fields, except those that only code can give.

The type of the table is derived from the struct, so that a new field of a policy is a new key at once. Functions,
conditions and classes of exceptions are no data: their fields are left out. TOML has no null: the text "none" stands
for ``None``.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from functools import cache, reduce
from operator import or_
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from recovery.redact import brief
from recovery.suggestions import hint

T = TypeVar("T")

ARRAYS = (tuple, list, set, frozenset, Iterable, Sequence, AbstractSet)

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", tuple: "a list"}
"""What errors call the types of values."""

MOST_VALUE = 80
"""Characters of a wrong value that an error shows."""


class Nothing(Enum):
    """How a table says ``None``."""

    NONE = "none"


class TableError(ValueError):
    """A table that says something wrong: *key* is the path of the value, *reason* what is wrong and what to do."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.key = key
        self.reason = reason


@cache
def plain(kind: Any) -> Any:
    """The part of the type *kind* that TOML can say; ``None`` if there is none."""
    origin, args = get_origin(kind), get_args(kind)
    if kind in (int, float, bool, str) or origin is Literal:
        return kind
    if kind is types.NoneType:
        return Nothing
    if origin in (Union, types.UnionType):
        members = [one for one in map(plain, args) if one is not None]
        if any(_is_text(one) for one in members):
            members.remove(Nothing) if Nothing in members else None
        return reduce(or_, members) if members not in ([], [Nothing]) else None
    if origin in ARRAYS:
        inner = plain(args[0])
        return None if inner is None else list_of(inner)
    if origin in (dict, Mapping):
        return _plain_mapping(*args)
    if not isinstance(kind, type):
        return None
    return kind if issubclass(kind, Enum) else table_of(kind) if issubclass(kind, msgspec.Struct) else None


def list_of(kind: Any) -> Any:
    """The type of a list whose items are of that *kind*."""
    return types.GenericAlias(tuple, (kind, ...))


def _plain_mapping(key: Any, value: Any) -> Any:
    """A table of any keys, or with one for each member of an enum: errors then name the member."""
    inner = plain(value)
    if key is str and inner is not None:
        return types.GenericAlias(dict, (str, inner))
    if inner is None or not (isinstance(key, type) and issubclass(key, Enum)):
        return None
    return define(key.__name__, {str(member.value): inner for member in key}, dict)


def _is_text(kind: Any) -> bool:
    is_enum = isinstance(kind, type) and issubclass(kind, Enum) and kind is not Nothing
    return is_enum or kind is str or get_origin(kind) is Literal


def table_of(struct: type[msgspec.Struct]) -> Any:
    """The type of a table for *struct*; ``None`` if the struct cannot be made of plain data alone."""
    kinds = {field.name: plain(field.type) for field in msgspec.structs.fields(struct)}
    required = [field.name for field in msgspec.structs.fields(struct) if field.required]
    if any(kinds[name] is None for name in required):
        return None
    return define(struct.__name__, kinds, struct, required, tag=struct.__struct_config__.tag)


def define(name: str, kinds: Mapping[str, Any], real: Any, required: Sequence[str] = (), tag: Any = None) -> Any:
    """A type of tables: *kinds* by key, those that are ``None`` left out; ``built`` makes a *real* of a table."""
    fields: list[Any] = [(key, kinds[key]) for key in required]
    for key, kind in kinds.items():
        if kind is not None and key not in required:
            fields.append((key, kind | msgspec.UnsetType, msgspec.UNSET))
    namespace = {"real": staticmethod(real), "of_code": frozenset(key for key, kind in kinds.items() if kind is None)}
    return msgspec.defstruct(name, fields, namespace=namespace, kw_only=True, forbid_unknown_fields=True, tag=tag)


def read(document: object, table: Any, key: str = "") -> Any:
    """*document*, as TOML has it, as a *table*. Raises TableError, below *key*, for the first thing that is wrong."""
    try:
        return msgspec.convert(document, table)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        path = path.rstrip("`").lstrip(".")
        at, why = _explained(reason, table, path)
        raise TableError(".".join(filter(None, (key, at))), why) from error


def _explained(reason: str, table: Any, path: str) -> tuple[str, str]:
    """The path of what is wrong, and why it is, from a message of msgspec about the value at *path*."""
    kind = _kind_at(table, path)
    if match := re.match(r"Object contains unknown field `(.+)`", reason):
        known = list(dict.fromkeys(key for one in _structs(kind) for key in one.__struct_fields__))
        is_of_code = any(match[1] in one.of_code for one in _structs(kind))
        why = "only the code can give it" if is_of_code else f"there is no such key; {hint(match[1], known)}"
        return f"{path}.{match[1]}".lstrip("."), why
    if match := re.match(r"Object missing required field `(.+)`", reason):
        return f"{path}.{match[1]}".lstrip("."), "is missing"
    tags = [one.__struct_config__.tag for one in _structs(_kind_at(table, path.rpartition(".")[0]))]
    if path.endswith("type") and all(tags):
        kind = Literal[tuple(tags)]
    got = re.search(r"got `(\w+)`|value '(.*)'|value (.+)", reason)
    found = "" if got is None else f", not {got[1] or brief(repr(got[2] if got[3] is None else got[3]), MOST_VALUE)}"
    return path, f"must be {described(kind)}{found}"


def _members(kind: Any) -> list[Any]:
    members = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return [one for one in members if one is not msgspec.UnsetType]


def _structs(kind: Any) -> list[Any]:
    return [one for one in _members(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def _kind_at(kind: Any, path: str) -> Any:
    """The type of the value at *path* in a table of that *kind*."""
    for part in re.findall(r"\w+|\[", path.replace("[...]", "[")):
        if part == "[":
            inner = {tuple: 0, dict: 1}
            origins = ((get_origin(one), get_args(one)) for one in _members(kind))
            kind = next((args[inner[origin]] for origin, args in origins if origin in inner), kind)
        elif not part.isdigit():
            fields = [field for one in _structs(kind) for field in msgspec.structs.fields(one)]
            kind = next((field.type for field in fields if field.encode_name == part), kind)
    return kind


def described(kind: Any) -> str:
    """What a value of that *kind* may be, for an error or a page."""
    said: list[str] = []
    for one in _members(kind):
        if get_origin(one) is Literal:
            said += map(repr, get_args(one))
        elif isinstance(one, type) and issubclass(one, Enum):
            said += [repr(str(member.value)) for member in one]
        elif get_origin(one) is tuple:
            inner = get_args(one)[0]
            said.append(f"a list of {described(inner).removeprefix('a ')}s" if inner in NAMES else "a list")
        else:
            said.append(NAMES.get(one, "a table"))
    said = list(dict.fromkeys(said))
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


def given(table: msgspec.Struct) -> dict[str, Any]:
    """The keys that *table* gives."""
    values = {key: getattr(table, key) for key in table.__struct_fields__}
    return {key: value for key, value in values.items() if value is not msgspec.UNSET}


def built(value: Any, key: str = "") -> Any:
    """What *value*, of a table, stands for. Raises TableError, below *key*, where the values do not fit each other."""
    if value is Nothing.NONE:
        return None
    if isinstance(value, tuple):
        return tuple(built(one, f"{key}[{number}]") for number, one in enumerate(value))
    if not isinstance(value, msgspec.Struct):
        return value
    values = {name: built(one, f"{key}.{name}".lstrip(".")) for name, one in given(value).items()}
    real: Any = getattr(value, "real")  # noqa: B009  # of the derived type alone
    return checked(lambda: real(**values), key, values)


def checked(make: Callable[[], T], key: str, names: Iterable[str] = ()) -> T:
    """What *make* returns; its TypeError or ValueError becomes a TableError for *key*, or one of the *names* in it."""
    try:
        return make()
    except TableError:
        raise
    except (TypeError, ValueError) as error:
        name, _, reason = str(error).partition(" ")
        is_named = re.split(r"\W", name)[0] in names and reason.startswith(("must ", "needs ", "has "))
        at = f"{key}.{name}".lstrip(".") if is_named else key
        raise TableError(at, reason if is_named else str(error)) from error
