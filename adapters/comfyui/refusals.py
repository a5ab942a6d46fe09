"""What is wrong with a prompt, from what the server says: an error of ours that names the nodes. Pure."""

from __future__ import annotations

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.graph import Graph


def refused(status: int, body: object, graph: Graph) -> Exception:
    """The error for a prompt that the server did not take (HTTP 4xx or 5xx)."""
    raise NotImplementedError


def partial(node_errors: object, graph: Graph) -> Exception:
    """The error for a prompt of which the server takes only a part: it answered 200 with *node_errors*."""
    raise NotImplementedError


def failed(error: ExecutionError, graph: Graph, name: str, runs: int = 0) -> Exception:
    """The error for a prompt of which a node failed."""
    raise NotImplementedError
