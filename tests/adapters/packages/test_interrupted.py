"""Installs that were killed or cancelled half way: finished, or put back, by the next one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from adapters.launcher.launcher import Launcher
from adapters.packages.install import BrokenPackagesError
from adapters.sqlite import SQLiteStore
from recovery.service import Recovery
from tests.adapters.packages.environments import _alone as _alone
from tests.adapters.packages.environments import installed, make_environment, packages_of
from tests.adapters.packages.index import Fault, Index
from tests.adapters.packages.test_install import anyio_backend as anyio_backend
from tests.adapters.packages.test_install import env as env
from tests.adapters.packages.test_install import index as index
from tests.adapters.packages.test_install import make_launcher
from tests.adapters.sqlite.test_kill import eventually
from tests.slow import few

pytestmark = pytest.mark.anyio

PROGRAM = """
import sys
import anyio
from pathlib import Path
from adapters.launcher.launcher import Launcher
from adapters.sqlite import SQLiteStore
from recovery import presets

async def main(root: Path, url: str, tool: str) -> None:
    async with Launcher(presets.launcher(store=SQLiteStore(root / "journal.db")), root) as launcher:
        await launcher.packages("env", ["alib", "torch"], indexes=[url], tool=tool)

anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3])
"""


async def interrupt(root: Path, index: Index) -> None:
    """Cancel the install of alib 2.0 while its file comes."""
    index.faults["alib-2.0-py3-none-any.whl"] = Fault(is_silent=True, times=1)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: make_launcher(root).packages("env", "alib>=2", indexes=[index.url]))
        with anyio.fail_after(20):
            while not index.asked("/files/alib-2.0"):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    index.faults.clear()


@pytest.mark.slow
async def test_an_install_that_was_interrupted_is_finished_and_its_halves_are_healed(
    env: Path, index: Index, tmp_path: Path
) -> None:
    await make_launcher(tmp_path).packages("env", ["bapp", "torch<2"], indexes=[index.url])
    await interrupt(tmp_path, index)
    folder = packages_of(env)
    (folder / "bapp" / "__init__.py").unlink()  # of a package that is whole but for its files
    (folder / "alib-1.0.dist-info").rename(folder / "~lib-1.0.dist-info")
    (folder / "torch-1.0.dist-info" / "RECORD").unlink()
    (folder / "alib-2.0.dist-info").mkdir()
    (folder / "alib-2.0.dist-info" / "METADATA").write_text("Name: alib\nVersion: 2.0\n")
    launcher = make_launcher(tmp_path)
    with pytest.raises(BrokenPackagesError, match="bapp"):  # finished, it breaks what was there
        await launcher.packages("env", "alib>=2", indexes=[index.url])
    assert installed(env) == {"alib": "1.0", "bapp": "1.0", "torch": "1.0"}
    assert not list(folder.glob("~*"))


@pytest.mark.slow
async def test_an_install_that_was_interrupted_is_finished_by_the_same_one(
    env: Path, index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await make_launcher(tmp_path).packages("env", ["alib<2", "torch<2"], indexes=[index.url])
    await interrupt(tmp_path, index)
    folder = packages_of(env)
    (folder / "torch-1.0.dist-info").rename(folder / "~orch-1.0.dist-info")  # it is gone, and not asked for
    (folder / "alib-1.0.dist-info" / "RECORD").unlink()
    found = await make_launcher(tmp_path).packages("env", "alib>=2", indexes=[index.url])
    assert installed(env) == {"alib": found.changed["alib"][1], "torch": "1.0"} == {"alib": "2.0", "torch": "1.0"}
    assert "the install of alib>=2 was interrupted" in caplog.text
    assert not (env / ".launcher-recovery" / "frozen.json").exists()


@pytest.mark.slow
async def test_packages_that_cannot_be_put_back_are_named_and_come_back_later(
    env: Path, index: Index, tmp_path: Path
) -> None:
    launcher = make_launcher(tmp_path)
    await launcher.packages("env", "bapp", indexes=[index.url])
    index.remove("alib", "alib-1.0-py3-none-any.whl")
    for _ in range(2):
        with pytest.raises(BrokenPackagesError, match=r"broke .*`bapp`.*alib==1.0 cannot be put back; have an index"):
            await launcher.packages("env", "capp", indexes=[index.url])
    index.add("alib", "1.0")
    assert (await launcher.packages("env", "torch", indexes=[index.url])).installed == {"torch": "2.0"}
    assert installed(env) == {"alib": "1.0", "bapp": "1.0", "torch": "2.0"}


@pytest.mark.parametrize("tool", few(["uv", "pip"], "uv"))
async def test_what_a_killed_launcher_left_running_is_ended_and_its_install_finished(
    tool: str, index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = make_environment(tmp_path / "env", has_pip=tool == "pip")
    index.faults["torch-2.0-py3-none-any.whl"] = Fault(is_silent=True, times=1)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), index.url, tool])
    eventually(lambda: index.asked("/files/torch") > 0)
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    async with Launcher(Recovery(store=SQLiteStore(tmp_path / "journal.db")), tmp_path) as launcher:
        launcher.resume()
        await launcher.packages("env", ["alib", "torch"], indexes=[index.url], tool=tool)
    assert installed(env).items() >= {"alib": "2.0", "torch": "2.0"}.items()
    assert "its launcher was killed; it is ended" in caplog.text.replace(f"(process {process.pid}) ", "")
