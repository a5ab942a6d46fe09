"""docs/reference/journal.md has the files, tables, columns and numbers of a journal as they are on the disk."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.sqlite import SQLiteStore
from adapters.sqlite.command_inbox import submit_command
from adapters.sqlite.files import kept_name
from adapters.sqlite.orders import keep_order
from adapters.sqlite.retention import NO_CALL_KEPT
from recovery import Recovery
from recovery.journal.orders import Order
from recovery.journal.store import Command

PAGE = (Path(__file__).parent.parent.parent / "docs" / "reference" / "journal.md").read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    [text] = re.findall(rf"^##+ {title}\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in text.splitlines() if "| `" in line]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    with Recovery(store=SQLiteStore(path), enable_logging=False) as service:
        service.calls.question("ready?")
        service.calls.answer("ready?", True)
    return path


@pytest.fixture
def database(journal: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(journal)) as connection:
        yield connection


def test_the_page_has_the_tables_and_columns_of_a_journal(database: sqlite3.Connection):
    tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert {name for (name,) in tables} == set(re.findall(r"^### (events|runs)$", PAGE, re.MULTILINE))
    for (table,) in tables:
        columns = database.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall()
        assert [(name, kind) for name, kind, _ in rows(table)] == columns


def test_the_page_has_the_indexes_of_a_journal(database: sqlite3.Connection):
    names = database.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    assert {name for name, _ in rows("Indexes")} == {name for (name,) in names}


def test_the_page_has_the_numbers_of_the_format(database: sqlite3.Connection):
    for pragma, value, _ in rows("Format")[:2]:
        assert database.execute(f"PRAGMA {pragma}").fetchall() == [(int(value),)]


def test_the_page_has_every_file_of_a_journal(tmp_path: Path):
    path = tmp_path / "calls.db"
    found: set[str] = set()
    with Recovery(store=SQLiteStore(path), enable_logging=False) as first:
        assert first.recoverable("work", resumable=True)(lambda: 1)() == 1
        first.calls.question("token", kind="secret")
        first.calls.answer("token", "a password", remember=True)
        first.journal.receipt().wait()
        with Recovery(store=SQLiteStore(path), enable_logging=False) as second:
            second.calls.question("ready?")
            second.calls.answer("ready?", True)
            second.journal.receipt().wait()
            found |= files_of(tmp_path)
    keep_order(path, Order(name="retry", call="1-1"))
    submit_command(path, Command(name="retry", call="1-1"))
    found |= files_of(tmp_path) | {kept_name(path, why).name for why in ("damaged", "removed")}
    named = [pattern(name) for cell, _ in rows("Files") for name in cell.split("`, `")]
    assert [name for name in sorted(found) if not any(re.fullmatch(one, name) for one in named)] == []
    absent = {one for one in named if not any(re.fullmatch(one, name) for name in found)}
    assert absent == {pattern("calls.db.d/inbox/NAME.refused")}


def files_of(folder: Path) -> set[str]:
    return {f"{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}


def pattern(name: str) -> str:
    """A pattern of the file that the page calls *name*; SQLite's files beside a side file belong to it."""
    text = re.escape(name).replace("RUN\\.db", r"\w+\.db(-wal|-shm|-lock)?").replace("TIME", r"\w+")
    return text.replace("NAME", r".+")


def test_the_page_says_how_many_rows_about_no_call_stay():
    assert f"{NO_CALL_KEPT:,}".replace(",", " ") in PAGE
