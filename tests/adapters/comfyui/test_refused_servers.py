"""What ``launcher.comfyui`` refuses before anything is started, and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.launcher import Launcher
from adapters.launcher.arguments import InvalidRequestError
from adapters.memory import MemoryStore
from recovery import presets

pytestmark = pytest.mark.anyio


async def enter(root: Path, folder: Path, **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "main.py").touch()
    root.mkdir(exist_ok=True)
    async with Launcher(presets.launcher(store=MemoryStore()), root) as launcher, launcher.comfyui(folder, **options):
        raise AssertionError("it was started")


async def test_an_option_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"comfyui\(\) has no option 'args'; it has window, python"):
        await enter(tmp_path, tmp_path / "ComfyUI", args=["--cpu"])


async def test_a_folder_outside_the_root_is_refused_with_a_cure(tmp_path: Path) -> None:
    said = r"outside the root, .*; give Launcher a root that holds it, or the words \[python, '.*/ComfyUI/main.py'\]"
    with pytest.raises(InvalidRequestError, match=said):
        await enter(tmp_path / "root", tmp_path / "ComfyUI")
