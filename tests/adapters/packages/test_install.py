"""Packages are installed by real pip and uv from a real index, checked, and put back if they break others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from adapters.launcher.arguments import InvalidRequestError
from adapters.launcher.launcher import Launcher
from adapters.memory import MemoryStore
from adapters.packages.install import BrokenPackagesError, Installed, NotInstalledError
from adapters.packages.installer import NoInstallerError, PackageConflictError
from adapters.packages.requirements import InvalidRequirementsError
from recovery import Constant, RetryPolicy, presets
from recovery.serialization.secret import Secret
from recovery.service import Recovery
from tests.adapters.packages.environments import _alone as _alone
from tests.adapters.packages.environments import installed, make_environment, packages_of
from tests.adapters.packages.index import Fault, Index, refused_url
from tests.slow import few

pytestmark = pytest.mark.anyio
both = pytest.mark.parametrize("tool", few(["pip", "uv"], "uv"))
QUICK = RetryPolicy(max_retries=2, backoff=Constant(0.0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def index() -> Iterator[Index]:
    """alib 1.0 and 2.0; bapp needs the first, capp the second; eapp needs torch 2."""
    with Index() as one:
        for name, version, needs in (
            ("alib", "1.0", ""), ("alib", "2.0", ""), ("bapp", "1.0", "alib<2"), ("capp", "1.0", "alib>=2"),
            ("torch", "1.0", ""), ("torch", "2.0", ""), ("eapp", "1.0", "torch>=2"),
        ):  # fmt: skip
            one.add(name, version, requires=[needs] if needs else ())
        yield one


@pytest.fixture
def env(tmp_path: Path) -> Path:
    return make_environment(tmp_path / "env")


def make_launcher(root: Path, **options: Any) -> Launcher:
    return Launcher(Recovery(store=MemoryStore()), root, **{"policy": QUICK, **options})


async def test_uv_installs_what_is_missing_and_asks_no_index_for_what_is_there(
    env: Path, index: Index, tmp_path: Path
) -> None:
    launcher = make_launcher(tmp_path)
    first = await launcher.packages("env", "bapp", indexes=[index.url])
    asked = len(index.requests)
    second = await launcher.packages(env / "bin/python", ["bapp", "alib<2"], indexes=[index.url])
    assert first == Installed(tool="uv", installed={"alib": "1.0", "bapp": "1.0"})
    assert second == Installed()
    assert len(index.requests) == asked
    assert installed(env) == {"alib": "1.0", "bapp": "1.0"}


@pytest.mark.slow
async def test_pip_that_ends_well_and_broke_another_package_has_failed(
    index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    env = make_environment(tmp_path / "env", has_pip=True)
    launcher = make_launcher(tmp_path)
    assert (await launcher.packages("env", "bapp", indexes=[index.url])).tool == "pip"
    said = r"capp is not installed, for alib 2.0 \(was 1.0\), capp 1.0 broke .*bapp 1.0 has requirement alib<2, but"
    with pytest.raises(BrokenPackagesError, match=said):
        await launcher.packages("env", "capp", indexes=[index.url])
    assert {name: version for name, version in installed(env).items() if name != "pip"} == {
        "alib": "1.0",
        "bapp": "1.0",
    }
    assert "put back as they were: alib==1.0, no capp" in caplog.text


async def test_uv_that_broke_another_package_has_failed_and_an_old_breakage_does_not_count(
    env: Path, index: Index, tmp_path: Path
) -> None:
    launcher = make_launcher(tmp_path)
    await launcher.packages("env", "bapp", indexes=[index.url])
    with pytest.raises(BrokenPackagesError, match="The package `bapp` requires `alib<2`"):
        await launcher.packages("env", "capp", indexes=[index.url])
    assert installed(env) == {"alib": "1.0", "bapp": "1.0"}
    info = packages_of(env) / "bapp-1.0.dist-info" / "METADATA"
    info.write_text(info.read_text() + "Requires-Dist: not-there\n")
    assert (await launcher.packages("env", "torch", indexes=[index.url])).installed == {"torch": "2.0"}


@both
async def test_a_protected_package_keeps_its_version_and_the_error_says_what_wants_another(
    tool: Any, index: Index, tmp_path: Path
) -> None:
    env = make_environment(tmp_path / "env", has_pip=tool == "pip")
    launcher = make_launcher(tmp_path)
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "requirements.txt").write_text("torch\nalib  # any\n")
    await launcher.packages("env", "torch<2", indexes=[index.url], tool=tool)
    await launcher.packages("env", "plugin/requirements.txt", indexes=[index.url], tool=tool)
    with pytest.raises(PackageConflictError, match=r"eapp cannot be installed: .*torch>=2.*protect="):
        await launcher.packages("env", "eapp", indexes=[index.url], tool=tool)
    assert installed(env).items() >= {"torch": "1.0", "alib": "2.0"}.items()
    if tool == "uv":
        await launcher.packages("env", "eapp", protect=(), indexes=[index.url])
        assert installed(env)["torch"] == "2.0"


@both
async def test_an_index_that_refuses_or_is_not_reached_is_followed_by_the_next(
    tool: Any, index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_environment(tmp_path / "env", has_pip=tool == "pip")
    launcher = make_launcher(tmp_path)
    with Index() as refusing:
        refusing.faults["*"] = Fault(status=403)
        found = await launcher.packages("env", "alib", indexes=[refusing.url, refused_url(), index.url], tool=tool)
    assert found.installed == {"alib": "2.0"}
    assert refusing.asked("alib") > 0
    assert "the index refused it; index 2 is tried" in caplog.text
    assert "the index was not reached; index 3 is tried" in caplog.text


async def test_a_package_that_the_first_index_lacks_is_not_taken_from_the_next(
    env: Path, index: Index, tmp_path: Path
) -> None:
    launcher = make_launcher(tmp_path)
    with Index() as strange:
        strange.add("own-plugin", "9.0")
        with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status"):
            await launcher.packages("env", "own-plugin", indexes=[index.url, strange.url])
        assert strange.requests == []


@pytest.mark.slow
async def test_a_network_failure_in_the_disguise_of_a_missing_package_is_retried(index: Index, tmp_path: Path) -> None:
    env = make_environment(tmp_path / "env", has_pip=True)
    index.faults["alib"] = Fault(cut=0, is_reset=True, times=2)
    await make_launcher(tmp_path).packages("env", "alib", indexes=[index.url])
    assert installed(env)["alib"] == "2.0"


@pytest.mark.slow
async def test_what_does_not_build_is_looked_for_as_a_wheel_and_then_a_person_is_asked(
    env: Path, index: Index, tmp_path: Path
) -> None:
    index.add("alib", "3.0", kind="broken sdist")
    index.add("dapp", "1.0", kind="broken sdist")
    launcher = Launcher(presets.launcher(store=MemoryStore()), tmp_path)
    assert (await launcher.packages("env", "alib", indexes=[index.url])).installed == {"alib": "2.0"}
    async with anyio.create_task_group() as group:

        async def answer() -> None:
            while not (questions := launcher.service.calls.questions()):
                await anyio.sleep(0.01)
            assert questions[0].name == "build:dapp"
            index.add("dapp", "1.1")
            launcher.service.calls.answer(questions[0].name)

        group.start_soon(answer)
        assert (await launcher.packages("env", "dapp", indexes=[index.url])).installed == {"dapp": "1.1"}


@pytest.mark.slow
async def test_one_environment_has_one_install_at_a_time(
    env: Path, index: Index, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index.faults["alib"] = Fault(rate=200.0, times=1)
    launcher = make_launcher(tmp_path)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: launcher.packages("env", "alib", indexes=[index.url], name="first"))
        while not index.asked("alib"):
            await anyio.sleep(0.01)
        await launcher.packages("env", "torch", indexes=[index.url], name="second")
        assert installed(env) == {"alib": "2.0", "torch": "2.0"}
    assert f"second waits for first (process {os.getpid()}), which changes the packages of {env}" in caplog.text


async def test_an_index_with_a_password_is_a_secret(
    env: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = make_launcher(tmp_path)
    url = index.url.replace("://", "://me:hunter22hunter22@")
    with pytest.raises(InvalidRequestError, match=r"holds a password, which would be journalled") as refused:
        await launcher.packages("env", "alib", indexes=[url])
    monkeypatch.setenv("INDEX", url)
    await launcher.packages("env", "alib", indexes=[Secret("env:INDEX")])
    assert installed(env) == {"alib": "2.0"}
    texts = "".join(one.read_text() for one in (tmp_path / ".recovery" / "logs").iterdir())
    assert "hunter22" not in texts + str(refused.value)


@pytest.mark.parametrize(
    ("requirements", "options", "said"),
    [
        ([], {}, "needs a requirement"),
        (5, {}, "must be a text or a list of texts, not 5"),
        ([5], {}, "a requirement is a text or the path of a file, not 5"),
        ("--index-url=x", {}, "'--index-url=x' is no requirement"),
        ("a @ https://me:secret@x.example/a.whl", {}, "holds a password"),
        ("a @ https://x.example/a.whl?token=geheim1234", {}, "holds a password"),
        ("a @ http://[", {}, "is no URL"),
        ("alib", {"tool": "conda"}, "tool must be"),
        ("alib", {"protect": "torch>=2"}, "'torch>=2' is no name of a package: give the name alone, without a version"),
        ("alib", {"indexes": ["http://"]}, "the index 'http://' names no server"),
        ("alib", {"indexes": ["https://x.example/simple?token=geheim1234"]}, "holds a password"),
        ("alib", {"indexes": ["ftp://x"]}, "an index is an http, https or file URL, not 'ftp://x'"),
    ],
)
async def test_what_cannot_be_installed_is_refused(
    requirements: Any, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, InvalidRequirementsError), match=said):
        await make_launcher(tmp_path).packages("env", requirements, **options)


async def test_an_environment_that_is_missing_or_has_no_installer_is_named(env: Path, tmp_path: Path) -> None:
    launcher = make_launcher(tmp_path)
    with pytest.raises(NoInstallerError, match=r"other/bin/python does not run .*; make the environment first"):
        await launcher.packages("other", "alib")
    (env / "bin" / "python").unlink()
    (env / "bin" / "python").write_text("#!/bin/sh\nexit 3\n")
    (env / "bin" / "python").chmod(0o755)
    with pytest.raises(NoInstallerError, match="does not tell its packages"):
        await launcher.packages("env", "alib")
    with pytest.raises(NoInstallerError, match="/bin/true is no Python: it answers ''"):
        await launcher.packages("/bin/true", "alib")


@pytest.mark.slow
async def test_variables_of_the_user_break_no_build(
    env: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add("dapp", "1.0", kind="sdist")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    await make_launcher(tmp_path).packages("env", "dapp", indexes=[index.url])
    assert installed(env)["dapp"] == "1.0"


@pytest.mark.slow
async def test_pip_that_ends_well_and_installed_nothing_has_failed(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(tmp_path / "env", has_pip=True)
    (tmp_path / "pip.conf").write_text("[install]\ndry-run = true\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(
        NotInstalledError, match=r"pip ended well, and alib is not in .*/env; .*: see `pip config list`"
    ):
        await make_launcher(tmp_path).packages("env", "alib", indexes=[index.url])


@pytest.mark.slow
async def test_a_protected_package_beneath_the_environment_is_not_covered_by_another(
    env: Path, index: Index, tmp_path: Path
) -> None:
    launcher = make_launcher(tmp_path)
    await launcher.packages("env", "torch<2", indexes=[index.url])
    above = make_environment(tmp_path / "above")
    (packages_of(above) / "beneath.pth").write_text(f"{packages_of(env)}\n")
    with pytest.raises(PackageConflictError, match=r"eapp cannot be installed: .*torch>=2"):
        await launcher.packages("above", "eapp", indexes=[index.url])
    assert installed(above) == {}
