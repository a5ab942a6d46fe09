"""Plant every bug of ``mutants.toml``, one at a time, in copies of the tree, and say which test saw it.

    python -m tests.mutants [WORD ...]      # only those whose law or file has one of the words

Exits with 1 if a mutant survived, if the place for one is not there (any more), or if a test fails without any.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
PARTS = ("events", "recovery", "adapters", "tests", "pyproject.toml", "README.md")
LIMIT = 30.0
"""Seconds after which a test is taken to hang, as a mutant may make it: it does not pass."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """*old* in *file* becomes *new*; then *test* (what pytest is told) must fail, or *law* is not held by any test."""

    law: str
    file: str
    old: str
    new: str
    test: str


def mutants(words: list[str]) -> list[Mutant]:
    document = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))
    every = msgspec.convert(document["mutant"], list[Mutant])
    return [one for one in every if not words or any(word in one.law or word in one.file for word in words)]


def passes(tree: Path, test: str) -> bool:
    """Whether *test* passes in *tree*; one that hangs does not."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *test.split()]
    # Without bytecode: two versions of one second and one size would be taken for one.
    # A script in a process of its own has its own folder on the path, and would import the tree without the bug.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        raise SystemExit(f"pytest {test} left with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def judge(tree: Path, mutant: Mutant) -> str:
    """What became of *mutant*, planted in *tree*, which is mended afterwards."""
    file = tree / mutant.file
    source = file.read_text(encoding="utf-8")
    if source.count(mutant.old) == 0:
        return "its place is gone"
    file.write_text(source.replace(mutant.old, mutant.new, 1), encoding="utf-8")
    try:
        return "SURVIVED" if passes(tree, mutant.test) else "died"
    finally:
        file.write_text(source, encoding="utf-8")


def main(words: list[str]) -> int:
    todo: queue.SimpleQueue[Mutant | str] = queue.SimpleQueue()
    chosen = mutants(words)
    for test in sorted({one.test for one in chosen}):
        todo.put(test)
    for mutant in chosen:
        todo.put(mutant)
    outcomes: list[str] = []

    def work(tree: Path) -> None:
        while True:
            try:
                one = todo.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            if isinstance(one, str):
                if not passes(tree, one):
                    outcomes.append(f"{one} fails without any bug planted")
                    print(f"FAILS     {one}", flush=True)
                continue
            outcome = judge(tree, one)
            outcomes.append(outcome)
            print(f"{outcome:9} {time.monotonic() - began:5.1f} s  {one.file:24} {one.law}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        threads = []
        for number in range(os.cpu_count() or 1):
            tree = Path(folder) / str(number)
            for part in PARTS:
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                tree.mkdir(exist_ok=True)
                copy(ROOT / part, tree / part)
            threads.append(threading.Thread(target=work, args=(tree,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    died = outcomes.count("died")
    print(f"{died} of {len(chosen)} mutants died")
    return 0 if 0 < died == len(outcomes) == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
