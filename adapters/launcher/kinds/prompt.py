"""``kind = "prompt"``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from adapters.comfyui.comfy import Comfy
from adapters.comfyui.errors import ServerBusyError, ServerDownError
from adapters.comfyui.result import PromptResult
from adapters.launcher.kinds.held_servers import Servers
from adapters.launcher.kinds.operation import Operation, Place, Problem
from adapters.launcher.launcher import Launcher

TRIES = 5
"""How often the files of a prompt are fetched, if its server dies or does not answer meanwhile."""

log = logging.getLogger("recovery.launch")


class Prompt(Operation, frozen=True, kw_only=True, tag="prompt"):
    """``kind = "prompt"``: a prompt of a ComfyUI server. One whose results are there still is not run again.

    Args:
        server: The name of the operation of kind `comfyui` that runs it, which it then needs.
        workflow: The file of its workflow, below the root, in the API format (in ComfyUI: Workflow > Export (API)).
        outputs: The ids of the nodes whose files are wanted, or "all".
        paid: Whether its nodes that cost money may run: "ask" a person, "allow" or "refuse" them.
        priority: Prompts with a "high" one run before the others, those with a "low" one after them.
        on_unknown: What is done if the server has lost it, and nothing says whether it has run: "ask" a person, or
            "resubmit" it. One that costs money always asks.
        on_memory: Arguments for the server, as `["--lowvram"]`: it is started again with them once, where the
            memory is too small for the prompt. Unset, a person is asked.
        save_to: A folder below the root that its files are copied to, with their subfolders; unset, they stay with the
            server.
    """

    server: str
    workflow: str
    outputs: tuple[str, ...] | Literal["all"] = "all"
    paid: Literal["ask", "allow", "refuse"] = "ask"
    priority: Literal["high", "normal", "low"] = "normal"
    on_unknown: Literal["ask", "resubmit"] = "ask"
    on_memory: tuple[str, ...] = ()
    save_to: str | None = None

    CALLS = ("comfyui-prompt", "comfyui-workflow")
    HOW = ("paid", "priority", "on_unknown", "on_memory")

    def __post_init__(self) -> None:
        if self.server not in self.needs:
            msgspec.structs.force_setattr(self, "needs", (*self.needs, self.server))

    @property
    def retried(self) -> tuple[str, ...]:
        """The prompt itself."""
        return self.calls[:1]

    def places(self) -> Iterator[Place]:
        """Its workflow, and the folder of its files."""
        yield Place("workflow", self.workflow, "read")
        if self.save_to is not None:
            yield Place("save_to", self.save_to, "made")

    def problems(self) -> Iterator[Problem]:
        """A list of outputs that is empty."""
        if not self.outputs:
            yield "outputs", 'names no node; leave it out, or write "all", for the files of all nodes'

    async def execute(self, launcher: Launcher, servers: Servers) -> None:
        """Run it, or find its results."""
        comfy: Comfy = servers.held(self.server)
        graph = await launcher.workflow(self.workflow, comfy, name=self.name)
        for tries in range(1, TRIES + 1):
            result = await comfy.prompt(
                graph,
                self.outputs,
                self.paid,
                self.name,
                priority=self.priority,
                on_unknown=self.on_unknown,
                on_memory=self.on_memory or None,
            )
            try:
                await self._save(result, comfy, launcher)
                return
            except (ServerBusyError, ServerDownError, FileNotFoundError) as error:
                if tries == TRIES:
                    raise
                log.info("%s: its files are fetched once the server answers: %s", self.name, error)

    async def _save(self, result: PromptResult, comfy: Comfy, launcher: Launcher) -> None:
        """Copy the files of *result*."""
        for file in result.files if self.save_to is not None else ():
            if file.type == "output":
                folder = launcher.place(os.path.join(self.save_to or "", *_parts(file.subfolder)))
                folder.mkdir(parents=True, exist_ok=True)
                await comfy.fetch(file, folder)


def _parts(subfolder: str) -> list[str]:
    """The names in a subfolder of the server, which may run on Windows; none leads out of a folder."""
    return [one for one in re.split(r"[/\\]", subfolder) if one not in ("", ".", "..")]
