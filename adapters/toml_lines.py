"""Where the fields and operations of a TOML file are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


class Lines:
    """Where the fields of a TOML file are written; *tables* are the tables of the file by those of findings."""

    def __init__(self, path: Path, tables: Mapping[str, str]) -> None:
        self._path, self._tables = path, tables
        self._lines = path.read_text(encoding="utf-8-sig").splitlines()

    def __call__(self, table: str, field: str) -> str:
        """The line of the *field*; of its table where it is not set, of the file without that."""
        wanted, current, header = self._tables.get(table, table), "", 0
        for number, line in enumerate(self._lines, 1):
            if match := re.match(r"\s*\[+\s*(.+?)\s*\]+\s*(#.*)?$", line):
                current = match[1]
                header = header or (number if current == wanted else 0)
            elif current == wanted and field and re.match(rf"\s*{re.escape(field)}\s*=", line):
                return f"{self._path}:{number}"
        return f"{self._path}:{header}" if header else str(self._path)

    def of_step(self, name: str) -> str:
        """The line that names the operation *name* of a plan."""
        is_name = re.compile(rf"\s*name\s*=\s*[\"']{re.escape(name)}[\"']").match
        number = next((number for number, line in enumerate(self._lines, 1) if is_name(line)), None)
        return str(self._path) if number is None else f"{self._path}:{number}"
