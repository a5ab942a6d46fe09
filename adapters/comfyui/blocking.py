"""A ComfyUI server and its prompts for plain code: the same, with methods that block."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from adapters.comfyui.answers import OutputFile
from adapters.comfyui.comfy import Comfy
from adapters.comfyui.paid import Paid
from adapters.comfyui.result import OnUnknown, Priority, PromptResult, QueuedPrompt


class BlockingComfy:
    """What ``with launcher.comfyui(...) as comfy`` of a blocking launcher gives: a ``Comfy`` whose methods block.

    Args:
        comfy: The server and its prompts.
        call: Runs an async function in the thread of the launcher.
    """

    def __init__(self, comfy: Comfy, call: Callable[[Callable[[], Awaitable[Any]]], Any]) -> None:
        self._comfy = comfy
        self._call = call

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._comfy)[1:]}"

    @property
    def name(self) -> str:
        """What the server is called."""
        return self._comfy.name

    @property
    def url(self) -> str:
        """As ``Comfy.url``."""
        return self._comfy.url

    @property
    def degraded(self) -> tuple[str, ...]:
        """As ``Comfy.degraded``."""
        return self._comfy.degraded

    def prompt(
        self,
        graph: dict[str, Any],
        outputs: Literal["all"] | Sequence[str] = "all",
        paid: Paid = "ask",
        name: str | None = None,
        *,
        priority: Priority = "normal",
        on_unknown: OnUnknown = "ask",
        partial: bool = False,
        on_memory: Sequence[str] | None = None,
    ) -> PromptResult:
        """As ``Comfy.prompt``."""
        result: PromptResult = self._call(
            lambda: self._comfy.prompt(
                graph, outputs, paid, name,
                priority=priority, on_unknown=on_unknown, partial=partial, on_memory=on_memory,
            )
        )  # fmt: skip
        return result

    def queue(self) -> list[QueuedPrompt]:
        """As ``Comfy.queue``."""
        found: list[QueuedPrompt] = self._soon(self._comfy.queue)
        return found

    def pause(self, reason: str = "") -> None:
        """As ``Comfy.pause``."""
        self._soon(lambda: self._comfy.pause(reason))

    def unpause(self) -> None:
        """As ``Comfy.unpause``."""
        self._soon(self._comfy.unpause)

    def cancel(self, name: str) -> bool:
        """As ``Comfy.cancel``."""
        return bool(self._soon(lambda: self._comfy.cancel(name)))

    def skip(self) -> str:
        """As ``Comfy.skip``."""
        return str(self._soon(self._comfy.skip))

    def fetch(self, file: OutputFile, to: str | os.PathLike[str]) -> None:
        """As ``Comfy.fetch``."""
        self._call(lambda: self._comfy.fetch(file, to))

    def _soon(self, ask: Callable[[], Any]) -> Any:
        """What *ask* returns in the thread of the launcher."""

        async def asked() -> Any:
            return ask()

        return self._call(asked)
