"""A hostile journal: nothing that it names is imported or run, and nothing that it holds fills the memory."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest

from adapters.sqlite import schema
from adapters.sqlite.connection import connecting
from adapters.sqlite.store import SQLiteStore
from recovery.journal.store import Row
from recovery.service import Recovery
from tests.adapters.sqlite import journals
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few

READ = """
import json, sys
from adapters.cli.command import main
from adapters.sqlite.store import SQLiteStore
from adapters.journals.status import read_status
from recovery.service import Recovery
import asyncio, pathlib

path, again = sys.argv[1:]
seen = []

def look(path):
    with Recovery(store=SQLiteStore(path)) as service:
        resumed = service.resume()
        resumed.wait(10.0)
        left = [[record.call, record.operation] for record in resumed.left]
        unreadable = list(service.journal.pending().unreadable)
        service.calls.find("planted-1")
    status = asyncio.run(read_status(pathlib.Path(path)))
    try:
        sys.argv[1:] = ["status", path]
        main()
    except SystemExit:
        pass
    return {"left": left, "unreadable": unreadable, "states": {call.call: call.state for call in status.calls}}

look(again)  # a harmless journal: all that reading one imports is imported now
WATCHED = "import os.system os.exec os.posix_spawn pickle.find_class exec compile subprocess.Popen".split()
sys.addaudithook(lambda event, args: seen.append([event, repr(args)]) if event in WATCHED else None)
report = look(path)
print(json.dumps({**report, "seen": seen}))
"""


class Report(msgspec.Struct):
    left: list[list[str]]
    unreadable: list[str]
    states: dict[str, str]
    seen: list[list[str]]


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch exploded",)


def planted() -> list[Row]:
    plain = journals.rows_of(
        [journals.started("planted-1", "os.system"), journals.started("planted-2", "antigravity.geohash")]
    )
    started = journals.rows_of([journals.started("planted-3")])[0].body
    odd = {
        "planted-4": pickle.dumps(Bomb()),
        "planted-5": started.replace(b'"OperationStarted"', b'"os.system"'),
        "planted-6": b'{"event": {"__reduce__": "os.system"}}',
        "planted-7": b"[" * 100_000,
        "planted-8": b"import os; os.system('touch exploded')",
        "planted-9": started.replace(b'"arguments":', b'"arguments":' + b"[" * 50_000),
    }
    return plain + [Row("dead", call, "OperationStarted", body, 100 + n) for n, (call, body) in enumerate(odd.items())]


def test_what_a_planted_row_names_is_never_imported_or_run(tmp_path: Path) -> None:
    path, harmless = tmp_path / "calls.db", tmp_path / "harmless.db"
    journals.write(path, planted())
    journals.write(harmless, journals.rows_of([journals.started("c")]), [Row("dead", "d", "OperationStarted", b"{", 9)])
    command = [sys.executable, "-c", READ, str(path), str(harmless)]
    done = subprocess.run(command, capture_output=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report = msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
    assert report.seen == []
    assert report.left == [["planted-1", "os.system"], ["planted-2", "antigravity.geohash"]]
    assert report.unreadable == [f"planted-{number}" for number in range(4, 10)]
    assert report.states == {
        f"planted-{number}": "left" if number < 3 else "unreadable" for number in (1, 2, *range(4, 10))
    }
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("size", few([schema.LONGEST_BODY + 1, 100_000_000], every=2))
def test_a_body_longer_than_any_we_write_makes_its_call_unreadable(size: int, tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("huge"), journals.started("small")]))
    with journals.plain(path) as connection:
        connection.execute("UPDATE events SET body = zeroblob(?) WHERE call = 'huge'", (size,))
    tracemalloc.start()
    try:
        with Recovery(store=SQLiteStore(path)) as service:
            assert service.journal is not None
            pending = service.journal.pending(10.0)
            assert service.journal.reason is None
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16_000_000
    assert [record.call for record in pending.calls] == ["small"]
    assert pending.unreadable == ("huge",)


@pytest.mark.slow
def test_a_text_longer_than_any_we_write_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path, journals.rows_of([journals.started("c")]))
    with journals.plain(path) as connection:
        [(index,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'events_by_call'").fetchall()
        connection.execute("DROP INDEX events_by_call")
        connection.execute("UPDATE events SET call = printf('%.*c', 60000000, 'x')")
        connection.execute(index)
    with Recovery(store=SQLiteStore(path)) as service:
        assert service.journal is not None
        service.journal.pending(10.0)
        service.bus.publish(journals.gave_up("later"))
        eventually(lambda: service.journal.reason is None)
        service.journal.receipt().wait(10.0)
    assert [one for one in tmp_path.iterdir() if ".damaged-" in one.name]


def test_no_connection_trusts_the_schema_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journals.write(path)

    async def main() -> list[object]:
        found: list[object] = []
        for opening in (connecting(path), journals.opened(path)):
            async with opening as connection:
                found += await connection.execute_fetchall("PRAGMA trusted_schema")
        return found

    assert asyncio.run(main()) == [(0,), (0,)]
