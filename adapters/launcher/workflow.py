"""The brick for workflow files: the graph of one, or what a drawn one needs."""

from __future__ import annotations

import os
from typing import Any

import anyio.to_thread

from adapters.comfyui.client import Client
from adapters.comfyui.comfy import Comfy
from adapters.comfyui.errors import InvalidGraphError, MissingModelError, MissingNodeError, Refused
from adapters.comfyui.graph import EXPORT
from adapters.comfyui.missing import MOST_SHOWN, REGISTRY, THEN_YES, pack_of
from adapters.comfyui.workflow import DRAWN, MOST_BYTES, Missing, Model, NodeClass, Workflow, missing, read_workflow
from adapters.disk import UnsafeFileError, read_plain
from adapters.launcher.bricks import Bricks
from events.evidence import Remedy
from recovery.redact import brief


class WorkflowBrick(Bricks):
    """Workflow files of ComfyUI."""

    def _declare(self) -> None:
        super()._declare()
        self._asked_at: dict[str, str | Comfy] = {}
        self._lacked_nodes: set[str] = set()
        self._recoverable("comfyui-workflow", self._check_drawn, lambda name, *_: f"workflow {name}")

    async def workflow(
        self, path: str | os.PathLike[str], server: str | Comfy, *, name: str | None = None
    ) -> dict[str, Any]:
        """The graph of the workflow file *path*, for ``Comfy.prompt``.

        A file of the other format, which the browser saves for itself, is no graph. Of such a one the nodes and models
        that the server lacks are asked for, with the questions ``node:CLASS`` and ``model:FILE``. Then it is an error
        that says how to export the graph.

        Args:
            path: The file, below the root.
            server: The server that is asked what it has: its address, or what ``comfyui`` gave for it. The latter is
                started again by a *yes* to ``node:CLASS``.
            name: What it is called on the screen; by default *path*.

        Raises:
            InvalidRequestError: The file is outside the root.
            InvalidGraphError: It cannot be read, is no workflow, or is not of the API format.
            MissingNodeError, MissingModelError: What it needs is not there, and no one has answered that it is.
        """
        file = os.fspath(path)
        found, shown = await self._read(file), name or file
        if found.format == "ui":
            self._asked_at[shown] = server  # not journalled: it may have another port the next time
            try:
                await self._call("comfyui-workflow", shown, file)
            finally:
                self._asked_at.pop(shown, None)
                self._lacked_nodes.discard(shown)
            found = await self._read(file)  # meanwhile it was exchanged for its graph
        return found.graph

    async def _read(self, file: str) -> Workflow:
        try:
            return read_workflow(await anyio.to_thread.run_sync(read_plain, self.place(file), MOST_BYTES))
        except (OSError, UnsafeFileError) as error:
            raise InvalidGraphError(f"the workflow {file} cannot be read: {error}") from error
        except InvalidGraphError as error:
            raise InvalidGraphError(f"{file} is no workflow to run: {error}") from error

    async def _check_drawn(self, name: str, file: str) -> None:
        await self._asked_again.until(lambda: name in self._asked_at, name, "it asks a server, which is not known yet")
        found = await self._read(file)
        if found.format != "ui":
            return
        unusable, server = f"{file} is {DRAWN}: {EXPORT}", self._asked_at[name]
        if name in self._lacked_nodes and isinstance(server, Comfy):
            await server.restart(f"{name} needs nodes that were installed")
        self._lacked_nodes.discard(name)
        try:
            async with Client(server if isinstance(server, str) else server.url) as client:
                lacks = missing(found, await client.object_info())
        except Refused as refused:  # a gateway, perhaps
            raise InvalidGraphError(f"{unusable}; whether it lacks nodes or models is unknown: {refused}") from None
        if lacks.nodes:
            self._lacked_nodes.add(name)
        raise _error_of(file, lacks) or InvalidGraphError(unusable)


def _error_of(file: str, lacks: Missing) -> MissingNodeError | MissingModelError | None:
    """The error for the first thing that is missing; its message names all. None if nothing is."""
    if lacks.nodes:
        first, names = lacks.nodes[0], _listed([node.name for node in lacks.nodes])
        sentence = f"Install {_pack(first)}. {THEN_YES}"
        remedy = Remedy(sentence, link=REGISTRY, question=f"node:{brief(first.name, MOST_SHOWN)}")
        return MissingNodeError(f"{file} has nodes that the server does not have: {names}", remedy=remedy)
    if lacks.models:
        model, names = lacks.models[0], _listed([model.name for model in lacks.models])
        shown = brief(model.name, MOST_SHOWN)
        sentence = f"Put {shown} into {_folder(model)}. Then answer yes."
        remedy = Remedy(sentence, link=brief(model.url, MOST_SHOWN), question=f"model:{shown}")
        return MissingModelError(f"{file} names models that the server does not have: {names}", remedy=remedy)
    return None


def _listed(names: list[str], most: int = 8) -> str:
    more = [f"{len(names) - most} more"] if len(names) > most else []
    return ", ".join([brief(name, MOST_SHOWN) for name in names[:most]] + more)


def _pack(node: NodeClass) -> str:
    pack, shown = node.pack or pack_of(node.name), brief(node.name, MOST_SHOWN)
    return f"the pack {brief(pack, MOST_SHOWN)}, which has {shown}" if pack else f"a pack that has {shown}"


def _folder(model: Model) -> str:
    folder = brief(model.folder, MOST_SHOWN)
    return f"models/{folder} of ComfyUI" if folder else "its folder in models of ComfyUI"
