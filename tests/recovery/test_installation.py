"""What `import recovery` says where it is not installed as it must be, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from recovery.installation import EXTRAS
from tests.slow import few

ROOT = Path(__file__).parents[2]
LOUD = "raise SystemExit('a module of the program was run')\n"


def run(*arguments: str, path: tuple[Path, ...] = (ROOT,), cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Python with *path* as its first places to import from."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.rstrip().rpartition("\n")[2]


def hide(folder: Path, name: str) -> Path:
    """Write a module or a package of that name into *folder*."""
    hider = folder / name
    hider.parent.mkdir(exist_ok=True)
    hider.write_text(LOUD, encoding="utf-8")
    return hider


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("events.py", "rename that file"),
        ("events/__init__.py", "rename that folder"),
        ("adapters.py", "rename that file"),
        ("adapters/__init__.py", "rename that folder"),
    ],
)
def test_a_module_of_the_program_that_hides_ours_is_named_and_not_run(name: str, cure: str, tmp_path: Path) -> None:
    hider = hide(tmp_path, name)
    ended = run("-c", "import recovery", path=(tmp_path, ROOT))
    package = name.partition("/")[0].removesuffix(".py")
    says = f"ImportError: recovery needs its own package {package!r}, but {hider} hides it: {cure}"
    assert (ended.returncode, last_line(ended)) == (1, says)


@pytest.mark.parametrize("name", ["events.py", "events/__init__.py", "adapters/__init__.py"])
def test_a_module_that_is_found_after_ours_hides_nothing(name: str, tmp_path: Path) -> None:
    hide(tmp_path, name)
    ended = run("-c", "import recovery, adapters.memory", path=(ROOT, tmp_path))
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["events", "adapters"])
def test_a_folder_that_is_no_package_hides_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert run("-c", "import recovery", path=(tmp_path, ROOT)).returncode == 0


def test_a_program_called_events_says_so_when_it_is_run(tmp_path: Path) -> None:
    program = tmp_path / "events.py"
    program.write_text("from recovery import recoverable\n", encoding="utf-8")
    ended = run(str(program), path=(tmp_path, ROOT))
    assert last_line(ended).endswith(f"but {program} hides it: rename that file")


@pytest.mark.parametrize("module", ["adapters.cli.command", "adapters.memory", "adapters"])
def test_an_adapter_says_what_hides_the_events(module: str, tmp_path: Path) -> None:
    hider = hide(tmp_path, "events.py")
    ended = run("-m", module, path=(tmp_path, ROOT))
    assert f"'events', but {hider} hides it: rename that file" in last_line(ended)


def test_a_module_that_is_loaded_already_hides_ours(tmp_path: Path) -> None:
    hider = tmp_path / "events.py"
    hider.write_text("", encoding="utf-8")
    ended = run(
        "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import events; del sys.path[0]; import recovery"
    )
    assert last_line(ended).endswith(f"but {hider} hides it: rename that file")


def installed(site: Path, name: str, package: str, init: str) -> None:
    """Install a distribution of that *name* with one package as an installer does, over what is there."""
    (site / package).mkdir(parents=True, exist_ok=True)
    (site / package / "__init__.py").write_text(init, encoding="utf-8")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "RECORD").write_text(f"{package}/__init__.py,,\n", encoding="utf-8")


@pytest.mark.parametrize(("name", "package"), [("Events", "events"), ("adapters", "adapters")])
def test_a_distribution_that_overwrote_our_package_is_named(name: str, package: str, tmp_path: Path) -> None:
    for ours in ("events", "recovery", "adapters"):
        (tmp_path / ours).symlink_to(ROOT / ours) if ours != package else None
    installed(tmp_path, name, package, LOUD)
    ended = run("-c", "import recovery", path=(tmp_path,))
    cure = f"uninstall {name} and install launcher-recovery again, or give launcher-recovery an environment of its own"
    assert last_line(ended).endswith(f"but {tmp_path / package / '__init__.py'} hides it: {cure}")


@pytest.mark.parametrize("package", ["events", "adapters"])
def test_a_package_that_is_missing_is_named(package: str, tmp_path: Path) -> None:
    for ours in {"events", "recovery", "adapters"} - {package}:
        (tmp_path / ours).symlink_to(ROOT / ours)
    only_here = "import sys, os; sys.path[1:] = [one for one in sys.path[1:] if not os.path.isdir(f'{one}/recovery')]"
    ended = run("-c", f"{only_here}; import recovery", path=(tmp_path,))
    says = f"recovery needs its own package {package!r}, which is missing: install launcher-recovery again"
    assert last_line(ended) == f"ImportError: {says}"


# --- extras ---

NEEDED = [
    ("launcher", "click", "adapters.cli.command"),
    ("launcher", "rich", "adapters.cli.command"),
    ("launcher", "rich", "adapters.terminal.screen"),
    ("launcher", "rich", "adapters.terminal.status_table"),
    ("launcher", "rich", "adapters.demo.report"),
    ("launcher", "rich", "adapters.demo.scenario"),
    ("launcher", "httpx2", "adapters.downloads"),
    ("launcher", "httpx2", "adapters.launcher"),
    ("launcher", "httpx2", "adapters.launcher.plan"),
    ("monitor", "ddsketch", "recovery.monitoring"),
    ("testing", "hypothesis", "recovery.testing.strategies"),
    ("testing", "hypothesis", "recovery.testing.machine"),
    ("testing", "pytest", "recovery.testing.plugin"),
    ("launcher", "psutil", "adapters.processes.command"),
    ("prometheus", "prometheus_client", "adapters.metrics.prometheus"),
    ("opentelemetry", "opentelemetry", "adapters.metrics.tracing"),
]


FEW = (NEEDED[0], NEEDED[2], NEEDED[6], NEEDED[9], NEEDED[12], NEEDED[13])  # one of each package


@pytest.mark.parametrize(("extra", "package", "module"), few(NEEDED, *FEW))
def test_a_module_without_its_extra_says_which_one_to_install(extra: str, package: str, module: str) -> None:
    ended = run("-c", f"import sys; sys.modules[{package!r}] = None; import {module}")
    says = f"ModuleNotFoundError: recovery needs the extra {extra!r}: pip install 'launcher-recovery[{extra}]'"
    assert (ended.returncode, last_line(ended)) == (1, says)


@pytest.mark.parametrize("package", few(EXTRAS["launcher"], "click"))
def test_the_command_without_its_extra_says_so_in_one_line(package: str) -> None:
    main = f"import sys; sys.modules[{package!r}] = None; from adapters.__main__ import main; main()"
    ended = run("-c", main, "--help")
    says = "recovery: needs the extra 'launcher': pip install 'launcher-recovery[launcher]'\n"
    assert (ended.returncode, ended.stderr, ended.stdout) == (2, says, "")


def test_the_command_with_its_extra_runs() -> None:
    ended = run("-m", "adapters", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Run launches that recover by themselves" in ended.stdout


def test_an_import_that_fails_for_another_reason_is_not_blamed_on_an_extra(tmp_path: Path) -> None:
    hider = tmp_path / "ddsketch.py"
    hider.write_text("import no_such_module\n", encoding="utf-8")
    ended = run("-c", "import recovery.monitoring", path=(tmp_path, ROOT))
    assert last_line(ended) == "ModuleNotFoundError: No module named 'no_such_module'"


def test_the_extras_are_those_of_the_distribution() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    modules = {"nats-py": "nats", "opentelemetry-api": "opentelemetry", "prometheus-client": "prometheus_client"}
    names = {
        extra: sorted(modules.get(name := one.partition(">")[0], name) for one in needs if "[" not in one)  # its own
        for extra, needs in declared.items()
    }
    assert names == {extra: sorted(needs) for extra, needs in EXTRAS.items()}


LESS = """
import importlib, os, pkgutil, signal, sys
sys.modules |= dict.fromkeys(["fcntl", "grp", "pty", "pwd", "syslog", "termios", "tty"])
for name in ("fork", "geteuid", "getpgid", "getpgrp", "getsid", "getuid", "killpg", "mkfifo", "register_at_fork"):
    delattr(os, name)
del os.O_NOFOLLOW, os.O_NONBLOCK, signal.SIGHUP, signal.SIGKILL
for root in ("events", "recovery", "adapters"):
    for found in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_without_what_windows_lacks() -> None:
    ended = run("-c", LESS)
    assert (ended.returncode, ended.stderr) == (0, "")
