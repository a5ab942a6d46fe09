"""What ``import recovery`` and the first healthy call load: only what they need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import recovery

FOREIGN = (
    *("anyio", "sniffio", "trio", "sqlite3", "aiosqlite", "asyncio", "concurrent.futures", "logging.handlers"),
    *("difflib", "email", "hashlib", "hmac", "html", "ipaddress", "pathlib", "queue", "secrets", "urllib.parse"),
    *("dataclasses", "shutil", "subprocess", "importlib.metadata"),
)
JOURNAL = tuple(
    f"recovery.journal.{one}"
    for one in ("core", "connection", "encoding", "history", "journal", "lookup", "queue", "receipts", "writer")
)
LATER = (
    *JOURNAL,
    *("recovery.conditions", "recovery.presets", "recovery.execution.blocks", "recovery.execution.timeouts"),
    *("events.queued", "recovery.configuration", "recovery.lint", "recovery.tables"),
    *("recovery.monitoring", "recovery.resume", "recovery.serialization.arguments"),
)


def loaded(program: str, names: tuple[str, ...]) -> set[str]:
    """Those of the modules *names* that *program* loads, beside those that msgspec and blinker load."""
    code = (
        "import sys, msgspec, blinker; before = set(sys.modules); import recovery; "
        f"{program}; print(*set({names!r}) & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_recovery_loads_no_service() -> None:
    names = ("msgspec", "blinker", "events", "recovery.service", "recovery.settings", *FOREIGN, *LATER)
    code = f"import sys, recovery; print(*set({names!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "call",
    [
        "assert recovery.recoverable(lambda: 7)() == 7",
        "assert recovery.recoverable(max_retries=9, key=str)(lambda host: host)('a') == 'a'",
        "assert recovery.Recovery(policy=recovery.RetryPolicy()).recoverable('fetch')(lambda: 7)() == 7",
    ],
)
def test_a_healthy_plain_call_loads_what_it_needs(call: str) -> None:
    assert loaded(call, (*FOREIGN, *LATER)) == set()


def test_a_healthy_async_call_loads_what_it_needs() -> None:
    program = (
        "import asyncio; before |= set(sys.modules)\nasync def fetch():\n    await asyncio.sleep(0); return 7\n"
        "assert asyncio.run(recovery.recoverable(fetch)()) == 7"
    )
    assert loaded(program, (*FOREIGN, *LATER)) == set()


def test_a_journal_has_loaded_all_that_its_end_needs() -> None:
    program = (
        "from adapters.memory import MemoryStore\n"
        "service = recovery.Recovery(store=MemoryStore())\n"
        "with service:\n"
        "    tries = iter((ConnectionError(), 7))\n"
        "    def fetch():\n"
        "        if isinstance(one := next(tries), Exception): raise one\n"
        "        return one\n"
        "    assert service.recoverable('fetch', initial_delay=0.0)(fetch)() == 7\n"
        "    service.journal.receipt().wait(); before = set(sys.modules)\n"
        "late = sorted(set(sys.modules) - before); assert not late, late"
    )
    assert loaded(program, ()) == set()


def test_the_thread_of_a_journal_imports_nothing() -> None:
    """A child that is forked meanwhile could never import that module: the lock on it would belong to no thread."""
    program = (
        "from adapters.memory import MemoryStore\n"
        "service = recovery.Recovery(store=MemoryStore()); before = set(sys.modules)\n"
        "service.journal.pending(5.0); late = sorted(set(sys.modules) - before); assert not late, late"
    )
    assert loaded(program, ()) == set()


def test_every_public_name_is_found_where_type_checkers_find_it() -> None:
    source = ast.parse(Path(recovery.__file__).read_text(encoding="utf-8"))
    block = next(node for node in source.body if isinstance(node, ast.If))
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        home = __import__(node.module or "", fromlist=["*"])
        for alias in node.names:
            if node.module == "recovery":
                assert getattr(recovery, alias.name).__name__ == f"recovery.{alias.name}"
            else:
                assert getattr(recovery, alias.name) is getattr(home, alias.name)


@pytest.mark.slow
def test_threads_may_ask_for_their_first_public_names_at_once() -> None:
    program = """
import sys, threading, time, recovery
begun = threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "events":
            begun.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Slow())
found = []
one = threading.Thread(target=lambda: found.append(recovery.Settings))
one.start()
begun.wait()
others = [threading.Thread(target=lambda name=name: found.append(getattr(recovery, name))) for name in recovery.__all__]
for other in others:
    other.start()
for thread in (one, *others):
    thread.join()
assert len(found) == 1 + len(others), found
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_listed_before_they_are_loaded() -> None:
    assert set(recovery.__all__) <= set(dir(recovery))
    done = subprocess.run(
        [sys.executable, "-c", "import recovery; print(set(recovery.__all__) <= set(dir(recovery)))"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "True\n"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'recovery' has no attribute 'recovrable'"):
        recovery.recovrable  # type: ignore[attr-defined]  # noqa: B018  # misspelt on purpose
