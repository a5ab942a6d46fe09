"""Build the distributions and try them as a user has them: in a virtual environment of their own, outside the tree.

    python -m tests.release           # with all tests of `make test` (eight minutes)
    python -m tests.release --short   # with those of the documentation (two minutes)

Writes dist/. Exits with 1 at the first step that fails, after what it printed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
DOCUMENT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOLS = DOCUMENT["project"], DOCUMENT["tool"]
PACKAGES = ("events", "recovery", "adapters")

NEED_THE_TREE = [
    "tests/bench/test_call_count.py",  # counts the calls by file of the tree
    "tests/test_mutants.py",  # plants bugs in the sources beside it
    "tests/test_packages.py",  # reads them: lengths, layers, exports
    "tests/test_words.py",  # reads them
    "tests/docs/test_environment.py",  # reads them: which variables they ask for
    "tests/docs/test_pages.py",  # looks for the files and folders that the pages name
    "tests/recovery/test_installation.py",  # starts Python with the tree on its path
]
"""Tests that look at the sources themselves; the others run against the wheel."""

SHORT = ["tests/docs", "tests/recovery/policies", "tests/events"]
"""Of the other tests, what the short form runs."""

TEST_MODULE = re.compile(r"(?:^|/)(?:tests/|test_[^/]*\.py$|conftest\.py$)")

HELLO = """
import sys
from recovery import recoverable
from recovery.testing import Script

assert "site-packages" in sys.modules["recovery"].__file__, sys.modules["recovery"].__file__
print(recoverable("fetch", initial_delay=0.0)(Script(ConnectionError("reset"), "a page"))())
"""


class FailedError(Exception):
    """A step found a fault; the text is what it says of it."""


def main(arguments: list[str]) -> int:
    """Take the steps one after another; print how long each took."""
    is_short = arguments == ["--short"]
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder))
        steps: list[tuple[str, Callable[[], None]]] = [
            ("the changelog has the version", changelog_has_the_version),
            ("build the sdist, and the wheel from it", build),
            ("the wheel holds the packages and nothing else", check_wheel),
            ("the metadata fit an index", check_metadata),
            ("the wheel works without its extras", trial.install_bare),
            ("an extra can be added later", trial.add_extra),
            ("the extras can be installed", trial.install_all),
            ("the demo runs", trial.run_demo),
            ("programs are type-checked against the wheel", trial.check_types),
            ("the tests pass against the wheel", lambda: trial.run_tests(SHORT if is_short else ["tests"])),
        ]
        for name, step in steps:
            began = time.monotonic()
            try:
                step()
            except FailedError as fault:
                print(f"FAILED  {name}\n{fault}", flush=True)
                return 1
            print(f"ok {time.monotonic() - began:6.1f} s  {name}", flush=True)
    print("built:", *sorted(one.name for one in DIST.iterdir()))
    return 0


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What *command* prints; raises FailedError with it unless it exits with 0."""
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        said = done.stdout[-6000:]
        raise FailedError(f"{' '.join(map(str, command))}\nexited with {done.returncode} after:\n{said}")
    return done.stdout


def changelog_has_the_version() -> None:
    """The newest section of the changelog is that of the version in pyproject.toml."""
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    newest = next(line for line in lines if line.startswith("## "))
    if newest.split()[1].rstrip(",") != PROJECT["version"]:
        raise FailedError(f"pyproject.toml has version {PROJECT['version']}; the changelog begins with {newest!r}")


def build() -> None:
    """Write dist/: the sdist of the tree, and the wheel of the sdist alone."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT, cwd=ROOT)


def only(pattern: str) -> Path:
    """The one file of dist/ with a name of *pattern*."""
    [path] = DIST.glob(pattern)
    return path


def check_wheel() -> None:
    """Every file of the packages is in the wheel, and no other; the licence is there, and the command."""
    with zipfile.ZipFile(only("*.whl")) as wheel:
        names = set(wheel.namelist())
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    sources = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in names if not name.startswith(info)}
    if held != sources:
        raise FailedError(f"missing: {sorted(sources - held)}; too many: {sorted(held - sources)}")
    if untyped := [package for package in PACKAGES if f"{package}/py.typed" not in held]:
        raise FailedError(f"no py.typed in: {untyped}; type checkers would take everything for Any")
    if strays := sorted(name for name in held if TEST_MODULE.search(name)):
        raise FailedError(f"modules of tests: {strays}")
    if f"{info}/licenses/LICENSE" not in names or "recovery = adapters.__main__:main" not in entry_points:
        raise FailedError("the wheel lacks its licence, or the command recovery")


def check_metadata() -> None:
    """The descriptions render and the fields are valid."""
    run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *DIST.iterdir(), cwd=ROOT)


class Trial:
    """A user's machine: a virtual environment and a folder without the packages' sources.

    Args:
        folder: Where both are made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree"
        self.bin = folder / "venv" / "bin"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.env = {**kept, "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]])}

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """What *command* prints in the environment."""
        program, *arguments = command
        return run(self.bin / program, *arguments, cwd=cwd or self.folder, env=self.env)

    def install_bare(self) -> None:
        """The wheel with its dependencies alone: a first program runs."""
        run(sys.executable, "-m", "venv", self.folder / "venv", cwd=self.folder)
        self.run("python", "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1")
        self.run("python", "-m", "pip", "install", "--quiet", only("*.whl"))
        if self.run("python", "-c", HELLO).splitlines()[-1] != "a page":
            raise FailedError("the first program printed something else")

    def add_extra(self) -> None:
        """What the error about a missing extra tells: pip adds the packages to the wheel that is installed."""
        self.run("python", "-m", "pip", "install", "--quiet", f"{PROJECT['name']}[monitor]")
        self.run("python", "-c", "from recovery import Recovery; Recovery().monitor()")

    def install_all(self) -> None:
        """The wheel with every extra, and what tests and type checkers need; the tests from the sdist."""
        extras = ",".join(sorted(PROJECT["optional-dependencies"]))
        groups = [f"--group={ROOT / 'pyproject.toml'}:{group}" for group in ("test", "lint", "bench")]
        self.run("python", "-m", "pip", "install", "--quiet", f"{only('*.whl')}[{extras}]", *groups)
        self.run("python", "-m", "pip", "check")
        with tarfile.open(only("*.tar.gz")) as sdist:
            sdist.extractall(self.folder, filter="data")
            top = PurePosixPath(sdist.getnames()[0]).parts[0]
        (self.folder / top).rename(self.tree)
        for package in PACKAGES:
            shutil.rmtree(self.tree / package)

    def run_demo(self) -> None:
        """The command is on the path, knows its version, and its demo succeeds."""
        said = self.run("recovery", "--version")
        if PROJECT["version"] not in said:
            raise FailedError(f"recovery --version prints {said!r}")
        self.run("recovery", "demo")

    def check_types(self) -> None:
        """What users write passes mypy and basedpyright, strict, with the types of the wheel."""
        surface = self.folder / "types"
        shutil.copytree(self.tree / "tests" / "typing", surface)
        settings = {**TOOLS["basedpyright"], "include": ["."], "strict": ["."]}
        (surface / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        self.run("python", "-m", "mypy", "--strict", "--config-file=", ".", cwd=surface)
        self.run("basedpyright", "--pythonpath", self.bin / "python", cwd=surface)

    def run_tests(self, chosen: list[str]) -> None:
        """The tests of the sdist, but those that look at the sources."""
        left_out = [f"--ignore={path}" for path in NEED_THE_TREE]
        pytest = ["python", "-m", "pytest", "-q", "-n", "logical", "--dist", "loadfile", "-p", "no:cacheprovider"]
        self.run(*pytest, *left_out, *chosen, cwd=self.tree)
        self.run(*pytest[:4], "-m", "", "-k", "README.md", "tests/docs/test_examples.py", cwd=self.tree)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
