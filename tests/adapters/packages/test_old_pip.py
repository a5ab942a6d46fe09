"""The pip that a new environment of an older Python begins with: it cannot go on with a download that breaks off."""

from __future__ import annotations

import ensurepip
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from recovery import Constant, RetryPolicy, presets
from recovery.service import Recovery
from tests.adapters.packages.environments import _alone as _alone
from tests.adapters.packages.environments import make_environment, packages_of
from tests.adapters.packages.index import Fault, Index

OLD = next(Path(ensurepip.__file__).parent.glob("_bundled/pip-2[0-4].*.whl"), None)


def with_old_pip(tmp_path: Path) -> Path:
    """An environment with the pip that is the first in one of this Python."""
    env = make_environment(tmp_path / "env")
    assert OLD is not None
    with zipfile.ZipFile(OLD) as wheel:
        wheel.extractall(packages_of(env))
    [metadata] = packages_of(env).glob("pip-*.dist-info")
    (metadata / "INSTALLER").write_text("pip\n")
    with (metadata / "RECORD").open("a") as record:
        record.write(f"{metadata.name}/INSTALLER,,\n")
    return env


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(OLD is None, reason="the pip of this Python is new")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_pip_that_cannot_go_on_with_a_download_is_upgraded_first(tmp_path: Path) -> None:
    env = with_old_pip(tmp_path)
    with Index() as index:
        index.add("alib", "1.0")
        index.add_installed("pip")
        launcher = Launcher(presets.launcher(store=MemoryStore()), tmp_path)
        done = await launcher.packages("env", "alib", indexes=[index.url], tool="pip")
        asked = [one for one in index.requests if one.endswith(".whl")]
    assert done.installed == {"alib": "1.0"}
    assert [one.name for one in packages_of(env).glob("pip-*.dist-info")] == [f"pip-{version('pip')}.dist-info"]
    assert [one.rpartition("/")[2].partition("-")[0] for one in asked] == ["pip", "alib"]


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(OLD is None, reason="the pip of this Python is new")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_half_a_file_that_an_old_pip_takes_for_another_is_loaded_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_old_pip(tmp_path)
    with Index() as index:
        index.faults[index.add("alib", "1.0", size=100_000)] = Fault(cut=50_000, times=1)
        launcher = Launcher(Recovery(store=MemoryStore()), tmp_path, policy=RetryPolicy(backoff=Constant(0.0)))
        done = await launcher.packages("env", "alib", indexes=[index.url], tool="pip")
    assert done.installed == {"alib": "1.0"}
    assert "cannot be upgraded; a download that breaks off begins from the start" in caplog.text
