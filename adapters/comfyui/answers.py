"""What a ComfyUI server says, as data: where a prompt stands, its outputs, its error. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["pending", "running", "finished", "absent"]
"""Where a prompt stands in a server: in its queue, in its history, or in neither."""


class OutputFile(msgspec.Struct, frozen=True):
    """A file that a prompt made, as ``/view`` takes it.

    Args:
        filename: Its name.
        subfolder: The folder below that of its type; "" for none.
        type: The folder: "output", "temp" (a preview, which a restart of the server deletes) or "input".
    """

    filename: str
    subfolder: str = ""
    type: str = "output"


class ExecutionError(msgspec.Struct, frozen=True):
    """Why a run of a prompt failed. The inputs of the node are left out: they may hold keys.

    Args:
        exception_type: The class, as ``torch.OutOfMemoryError``.
        exception_message: What it said.
        node_id: The node; "" if the server does not say it.
        node_type: Its class.
    """

    exception_type: str
    exception_message: str = ""
    node_id: str = ""
    node_type: str = ""


class Finished(msgspec.Struct, frozen=True):
    """How a run of a prompt ended.

    Args:
        succeeded: Whether the server says that it succeeded.
        interrupted: Whether it was interrupted.
        error: Why it failed; None for another end.
        outputs: What each node put out, by its id, as the server says it.
    """

    succeeded: bool
    interrupted: bool = False
    error: ExecutionError | None = None
    outputs: dict[str, Any] = {}


class Standing(msgspec.Struct, frozen=True):
    """Where a prompt stands in a server.

    Args:
        state: "absent" if the server does not know it.
        number: Its place in the order of the server, if the server says it: each new process begins at 0.
        finished: How it ended; None if it has not.
    """

    state: State
    number: float | None = None
    finished: Finished | None = None


ABSENT = Standing("absent")


def files_in(output: Any) -> Iterator[OutputFile]:
    """The files in what a node put out: images, videos, sounds, whatever list holds them."""
    if not isinstance(output, dict):
        return
    for listed in output.values():
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("filename"), str):
                yield OutputFile(one["filename"], str(one.get("subfolder") or ""), str(one.get("type") or "output"))
