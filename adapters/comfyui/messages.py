"""What a ComfyUI server says of a prompt while it runs, by its websocket. Pure."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import msgspec

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.parsing import execution_error, plain


class _OfPrompt(msgspec.Struct, frozen=True):
    prompt_id: str


class Started(_OfPrompt, frozen=True):
    """The prompt runs."""


class Cached(_OfPrompt, frozen=True):
    """The nodes whose output the server has kept of a former prompt: they do not run."""

    nodes: tuple[str, ...]


class Executing(_OfPrompt, frozen=True):
    """A node runs; None at the end of the prompt, also of one that failed."""

    node: str | None


class Step(_OfPrompt, frozen=True):
    """The node that runs is at *value* of *max* steps."""

    node: str
    value: float
    max: float


class Executed(_OfPrompt, frozen=True):
    """What a node put out. Nodes without files and texts are not told of."""

    node: str
    output: dict[str, Any]


class Succeeded(_OfPrompt, frozen=True):
    """All nodes have run. The history does not know it yet."""


class Failed(_OfPrompt, frozen=True):
    """A node failed."""

    error: ExecutionError


class Interrupted(_OfPrompt, frozen=True):
    """The prompt was interrupted."""


Message: TypeAlias = Started | Cached | Executing | Step | Executed | Succeeded | Failed | Interrupted


def parse(text: str | bytes) -> Message | None:
    """Read a message; None for one of another kind, or that cannot be read. Nothing is raised."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match message:
        case {"type": str(kind), "data": {"prompt_id": str(prompt_id)} as data}:
            return _of_prompt(kind, prompt_id, data)
    return None


def _of_prompt(kind: str, prompt_id: str, data: dict[str, Any]) -> Message | None:
    match kind, data:
        case "execution_start", _:
            return Started(prompt_id)
        case "execution_cached", {"nodes": list(nodes)}:
            return Cached(prompt_id, tuple(map(str, nodes)))
        case "executing", {"node": str() | int() | None as node}:
            return Executing(prompt_id, None if node is None else str(node))
        case "progress", {
            "node": str() | int() as node,
            "value": int() | float() as value,
            "max": int() | float() as most,
        }:
            return Step(prompt_id, str(node), _number(value), _number(most))
        case "executed", {"node": str() | int() as node}:
            output = data.get("output")
            return Executed(prompt_id, str(node), plain(output) if isinstance(output, dict) else {})
        case "execution_success", _:
            return Succeeded(prompt_id)
        case "execution_error", _:
            return Failed(prompt_id, execution_error(data))
        case "execution_interrupted", _:
            return Interrupted(prompt_id)
    return None


def _number(value: float) -> float:
    known = plain(value)
    return known if isinstance(known, int | float) else 0
