"""Write the tables of docs/reference/plans.md from the types of plans.

python -m tests.docs.plans_page
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import reduce
from operator import or_
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import msgspec

from adapters.launcher.document import KINDS, Document, DownloadTable, LaunchTable, NotificationsTable, WaitTable
from adapters.launcher.kinds.operation import Operation
from adapters.launcher.kinds.steps import CommandWithUndo
from recovery.tables import described

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "plans.md"
BEGIN = "<!-- `make pages` writes what follows from the types in adapters/launcher/document.py -->\n"
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    Document,
    DownloadTable,
    WaitTable,
    LaunchTable,
    NotificationsTable,
    Operation,
    *KINDS.values(),
    CommandWithUndo,
)


def tables() -> str:
    """The sections of the page that are made from the types."""
    return "".join(f"\n## {_title(struct)}\n\n{_table(struct)}" for struct in STRUCTS)


def meanings(struct: type[msgspec.Struct]) -> dict[str, str]:
    """What the docstring of *struct* says of each field."""
    [arguments] = re.findall(r"^Args:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(struct) or "", re.DOTALL | re.MULTILINE)
    found = re.findall(r"^ {4}(\w+): (.*?)(?=\n {4}\w|\Z)", arguments, re.DOTALL | re.MULTILINE)
    return {name: " ".join(meaning.split()) for name, meaning in found}


def own_fields(struct: type[msgspec.Struct]) -> Iterator[msgspec.structs.FieldInfo]:
    """The fields of *struct* that the struct it extends has not; ``kind`` is in its title."""
    inherited = struct.__base__.__struct_fields__ if issubclass(struct.__base__ or object, msgspec.Struct) else ()
    return (field for field in msgspec.structs.fields(struct) if field.name not in inherited)


def _title(struct: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(struct) or "").partition("\n")[0].replace("``", "`").removesuffix(".")


def _table(struct: type[msgspec.Struct]) -> str:
    shared = [base for base in struct.__mro__[1:] if issubclass(base, Operation) and base is not Operation]
    rows = "".join(row for kind in (struct, *shared) for row in _rows(kind))
    return "| key | value | default | meaning |\n|---|---|---|---|\n" + rows


def _rows(struct: type[msgspec.Struct]) -> Iterator[str]:
    hints, said = get_type_hints(struct), meanings(struct)
    for field in own_fields(struct):
        yield f"| `{field.name}` | {_type(hints[field.name])} | {_default(field)} | {said[field.name]} |\n"


def _type(kind: Any) -> str:
    kinds = [one for one in get_args(kind) if one is not NoneType] if NoneType in get_args(kind) else [kind]
    return described(reduce(or_, kinds)).replace("'", '"')


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is msgspec.NODEFAULT:
        return "required"
    if value is None or isinstance(value, msgspec.Struct):
        return "none"
    return f"`{msgspec.json.encode(value).decode()}`"


if __name__ == "__main__":
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + tables(), encoding="utf-8")
