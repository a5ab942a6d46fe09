"""The pip that a new environment of an older Python begins with: it cannot go on with a download that breaks off."""

from __future__ import annotations

import ensurepip
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from recovery import presets
from tests.adapters.packages.environments import _alone as _alone
from tests.adapters.packages.environments import make_environment, packages_of
from tests.adapters.packages.index import Index

OLD = next(Path(ensurepip.__file__).parent.glob("_bundled/pip-2[0-4].*.whl"), None)


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.skipif(OLD is None, reason="the pip of this Python is new")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_pip_that_cannot_go_on_with_a_download_is_upgraded_first(tmp_path: Path) -> None:
    env = make_environment(tmp_path / "env")
    assert OLD is not None
    with zipfile.ZipFile(OLD) as wheel:
        wheel.extractall(packages_of(env))
    [metadata] = packages_of(env).glob("pip-*.dist-info")
    (metadata / "INSTALLER").write_text("pip\n")
    with (metadata / "RECORD").open("a") as record:
        record.write(f"{metadata.name}/INSTALLER,,\n")
    with Index() as index:
        index.add("alib", "1.0")
        index.add_installed("pip")
        launcher = Launcher(presets.launcher(store=MemoryStore()), tmp_path)
        done = await launcher.packages("env", "alib", indexes=[index.url], tool="pip")
        asked = [one for one in index.requests if one.endswith(".whl")]
    assert done.installed == {"alib": "1.0"}
    assert [one.name for one in packages_of(env).glob("pip-*.dist-info")] == [f"pip-{version('pip')}.dist-info"]
    assert [one.rpartition("/")[2].partition("-")[0] for one in asked] == ["pip", "alib"]
