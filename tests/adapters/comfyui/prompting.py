"""A program with a launcher that holds a ComfyUI server and runs prompts: a test kills it, and starts it again.

``python -m tests.adapters.comfyui.prompting FOLDER SECONDS SEED...``: it prints a line for each prompt that is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from adapters.comfyui.comfy import Comfy
from adapters.launcher import Launcher, RestartPolicy
from adapters.sqlite import SQLiteStore
from recovery import presets
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.standin.child import Place


async def main(folder: Path, seconds: float, seeds: list[int]) -> None:
    service = presets.launcher(store=SQLiteStore(folder / "journal.db"))
    async with Launcher(service, folder) as launcher:
        launcher.resume()
        argv = Place(folder / "comfyui").argv()
        policy = RestartPolicy(max_restarts=20, delay=0.01)
        async with launcher.comfyui(argv, restarts=policy) as comfy, anyio.create_task_group() as group:
            for seed in seeds:
                group.start_soon(run, comfy, seed, seconds)


async def run(comfy: Comfy, seed: int, seconds: float) -> None:
    result = await comfy.prompt(graphs.picture(seed, seconds=seconds))
    sys.stdout.write(f"{seed} {result.prompt_id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), float(sys.argv[2]), [int(one) for one in sys.argv[3:]])
