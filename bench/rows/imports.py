"""``import recovery``: over importing asyncio alone, over a bare interpreter, and the modules it must not load."""

from __future__ import annotations

import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time

from bench.measure import Clock, Effort, differences, ratios, spread
from bench.row import Row, most

UNWANTED = ("asyncio", "sqlite3", "trio", "aiosqlite")
FIRST_CALL = "import asyncio, recovery\nrecovery.recoverable(lambda: None)()"
PEERS = ("hyx.retry", "tenacity", "stamina", "pyresilience")


def measure(effort: Effort) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # Bytecode is cached here for all candidates, even if the machine's settings forbid writing it.
        return _measure(effort, {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": folder})


def _measure(effort: Effort, env: dict[str, str]) -> list[Row]:
    candidates = {"bare": "pass", "asyncio": "import asyncio", "alone": "import recovery"}
    candidates |= {"ours": "import asyncio, recovery", "first call": FIRST_CALL}
    for name in PEERS if effort.name == "full" else PEERS[:1] if effort.peers else ():
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            candidates[name] = f"import asyncio, {name}"
    if effort.on_processor:
        candidates = {name: candidates[name] for name in ("asyncio", "ours", "first call")}
    clock = _children if effort.on_processor else time.perf_counter
    rounds = 11 if effort.on_processor else max(effort.rounds // 2, 25)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    for code in candidates.values():
        _run(code, env)  # writes its bytecode
    for _ in range(rounds):
        for name, code in candidates.items():
            taken[name].append(_run(code, env, clock))
    print_loaded = f"import sys, recovery; print(*[name for name in {UNWANTED!r} if name in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", print_loaded], capture_output=True, text=True, check=True
    ).stdout.split()
    count = float(len(loaded))
    others = {
        name.partition(".")[0]: ratios(times, taken["asyncio"])
        for name, times in taken.items()
        if name not in ("bare", "asyncio", "alone", "ours", "first call")
    }
    over_asyncio = Row(
        key="import-ratio",
        what="import asyncio, recovery: over import asyncio alone, the interpreter's start included",
        unit="x",
        measured=ratios(taken["ours"], taken["asyncio"]),
        goal=most(1.3),
        best="hyx 1.2x",
        peers=others,
        note=f"importing asyncio alone takes {spread(taken['asyncio']).middle * 1e3:.1f} ms",
    )
    first_call = Row(
        key="import-first-call",
        what="import asyncio, recovery and one healthy call: over import asyncio alone, the start included",
        unit="x",
        measured=ratios(taken["first call"], taken["asyncio"]),
        note="what the import leaves to the first use is in it",
    )
    if effort.on_processor:
        return [over_asyncio, first_call]
    return [
        over_asyncio,
        first_call,
        Row(
            key="import",
            what="import recovery, over a bare interpreter",
            unit="ms",
            measured=differences(taken["alone"], taken["bare"]).scaled(1e3),
            before="334 ms",
            note=f"a bare interpreter takes {spread(taken['bare']).middle * 1e3:.1f} ms",
        ),
        Row(
            key="import-modules",
            what=f"of {', '.join(UNWANTED)}: loaded by import recovery",
            unit="",
            measured=spread([count]),
            goal=most(0.0, "none"),
            note=f"loaded: {', '.join(loaded) or 'none'}",
        ),
    ]


def _run(code: str, env: dict[str, str], clock: Clock = time.perf_counter) -> float:
    began = clock()
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    return clock() - began


def _children() -> float:
    """Processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
