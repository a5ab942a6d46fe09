"""Plant the bugs of ``mutants.toml``, one at a time, in copies of the tree, and say which of them no test sees.

    python -m tests.mutants [WORD ...]      # only those whose law has one of the words

Exits with 1 unless every test passes without its bug and fails with it.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import msgspec

ROOT = Path(__file__).parent.parent
PACKAGES = ("events", "recovery", "adapters")
LIMIT = 30.0
"""Seconds until a test counts as hanging, which is as good as failing."""


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bug: *old*, which stands in one place of the packages, becomes *new*; then the function *test* must fail."""

    law: str
    old: str
    new: str
    test: str

    def place(self) -> Path:
        """The file to plant the bug in, relative to the root."""
        texts = [one for folder in PACKAGES for one in _texts(folder)]
        return _only([file for file, source in texts for _ in range(source.count(self.old))], self.old)

    def node(self) -> str:
        """The test, as pytest names it."""
        return f"{_only(_functions('tests').get(self.test, []), f'def {self.test}(')}::{self.test}"


def _only(found: list[Path], text: str) -> Path:
    if len(found) != 1:
        raise LookupError(f"{text!r} stands in {len(found)} places, not in one")
    return found[0].relative_to(ROOT)


@cache
def _texts(folder: str) -> list[tuple[Path, str]]:
    return [(file, file.read_text(encoding="utf-8")) for file in (ROOT / folder).rglob("*.py")]


@cache
def _functions(folder: str) -> dict[str, list[Path]]:
    """The files of each function."""
    found = defaultdict[str, list[Path]](list)
    for file, source in _texts(folder):
        for name in re.findall(r"def (\w+)\(", source):
            found[name].append(file)
    return found


def mutants() -> list[Mutant]:
    """Every mutant of ``mutants.toml``."""
    document = tomllib.loads((ROOT / "tests" / "mutants.toml").read_text(encoding="utf-8"))
    return msgspec.convert(document["mutant"], list[Mutant])


def passes(tree: Path, node: str) -> bool:
    """Whether the test *node* passes in *tree*; one that hangs does not."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", node]
    # No bytecode: Python would take two versions of one second and one size for the same.
    # The path is for scripts in processes of their own, which would otherwise import the tree without the bug.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest {node} left with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


def judge(tree: Path, mutant: Mutant) -> str:
    """What becomes of *mutant* in *tree*, which is mended afterwards."""
    if not passes(tree, mutant.node()):
        return "FAILS WITHOUT IT"
    file = tree / mutant.place()
    source = file.read_text(encoding="utf-8")
    file.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return "SURVIVED" if passes(tree, mutant.node()) else "died"
    finally:
        file.write_text(source, encoding="utf-8")


def main(words: list[str]) -> int:
    """Judge the mutants whose law has one of *words*, or all; print a line for each, and return the exit code."""
    chosen = [mutant for mutant in mutants() if not words or any(word in mutant.law for word in words)]
    workers = os.cpu_count() or 1
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()

    def work(mutant: Mutant) -> str:
        tree, began = trees.get(), time.monotonic()
        try:
            outcome = judge(tree, mutant)
        finally:
            trees.put(tree)
        print(f"{outcome:9} {time.monotonic() - began:5.1f} s  {mutant.law}", flush=True)
        return outcome

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(workers) as pool:
        for number in range(workers):
            tree = Path(folder, str(number))
            for part in (*PACKAGES, "tests", "docs"):
                shutil.copytree(ROOT / part, tree / part)
            for name in ("pyproject.toml", "README.md"):
                shutil.copy(ROOT / name, tree)
            trees.put(tree)
        died = list(pool.map(work, chosen)).count("died")
    print(f"{died} of {len(chosen)} mutants died")
    return 0 if died == len(chosen) > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
