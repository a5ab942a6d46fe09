"""Some nodes of the stand-in for a real ComfyUI, which imports this file as a custom node."""

from __future__ import annotations

import builtins
import os
import time
from typing import Any

SECONDS = ("FLOAT", {"default": 0.0, "min": 0.0, "max": 3600.0})
NUMBER = ("INT", {"default": 0, "min": 0, "max": 10000})


def node(function: Any, **inputs: Any) -> type:
    """A class of nodes that give the picture that they take."""

    def run(self: Any, image: Any, **values: Any) -> tuple[Any]:
        function(**values)
        return (image,)

    members = {
        "INPUT_TYPES": classmethod(lambda cls: {"required": {"image": ("IMAGE",), **inputs}}),
        "RETURN_TYPES": ("IMAGE",),
        "FUNCTION": "run",
        "CATEGORY": "tests",
        "run": run,
    }
    return type(function.__name__.title(), (), members)


def sleep(seconds: float, steps: int) -> None:
    import comfy.utils

    progress = comfy.utils.ProgressBar(steps)
    for _ in range(steps):
        time.sleep(seconds / steps)
        progress.update(1)  # raises if the run was interrupted


def busy(seconds: float) -> None:
    time.sleep(seconds)


def die(signal: int, code: int, times: int) -> None:
    if signal:
        os.kill(os.getpid(), signal)
        time.sleep(60)
    os._exit(code)


def stuck(seconds: float) -> None:
    time.sleep(seconds)


def fail(words: str, kind: str) -> None:
    raise getattr(builtins, kind, RuntimeError)(words)


NODE_CLASS_MAPPINGS = {
    "Sleep": node(sleep, seconds=SECONDS, steps=NUMBER),
    "Busy": node(busy, seconds=SECONDS),
    "Die": node(die, signal=NUMBER, code=NUMBER, times=NUMBER),
    "Stuck": node(stuck, seconds=SECONDS),
    "Fail": node(fail, words=("STRING", {}), kind=("STRING", {})),
}
