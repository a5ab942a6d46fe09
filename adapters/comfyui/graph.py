"""Check a graph of the API format before it is sent, and tell whether two graphs ask for the same. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from adapters.comfyui.errors import InvalidGraphError
from recovery.redact import brief

EXPORT = "export it from ComfyUI with the menu Workflow > Export (API)"

MOST_BYTES = 900 * 1024
"""Bytes of a graph as JSON. The journal takes 1 MiB for all that is asked; more would not survive a kill."""

MOST_DEPTH = 64
"""Lists and mappings within one another, in an input."""

LARGEST_WHOLE = 2**53
"""Up to here a float is the same number as the integer that it is equal to, also for a browser."""

MOST_OF_A_TITLE = 60
"""Characters of a title that are shown."""


class Graph(msgspec.Struct, frozen=True):
    """A graph that was checked.

    Args:
        nodes: The graph as it is sent, by the ids of its nodes.
        canonical: What the server makes of it, as JSON: equal for graphs that ask for the same. Titles, the order of
            keys, and 1.0 in place of 1 make no difference.
        wanted: The nodes whose outputs are wanted, in order; None for all.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    canonical: bytes
    wanted: tuple[str, ...] | None = None

    def title(self, node: str) -> str:
        """What a sentence calls a *node*: its title, or its class, and its id."""
        found = self.nodes.get(node, {})
        meta = found.get("_meta")
        title = meta.get("title") if isinstance(meta, Mapping) else None
        return titled(node, title if isinstance(title, str) else "", self.class_of(node))

    def class_of(self, node: str) -> str:
        """The class of a *node*; "" if there is no such node."""
        kind = self.nodes.get(node, {}).get("class_type", "")
        return kind if isinstance(kind, str) else ""


def titled(node: str, title: str, kind: str) -> str:
    """``Load Checkpoint (node 4)``: the *title* of a node, or else its class, and its id. Redacted, in one line."""
    name = brief(title, MOST_OF_A_TITLE).strip() or brief(kind, MOST_OF_A_TITLE).strip()
    return f"{name} (node {brief(node, MOST_OF_A_TITLE)})" if name else f"node {brief(node, MOST_OF_A_TITLE)}"


def check(graph: object, outputs: Literal["all"] | Sequence[str] = "all") -> Graph:
    """The *graph*, if a server can read it. Whether the server has its nodes and models, only the server knows.

    Args:
        graph: The graph in the API format, as a dict.
        outputs: The ids of the nodes whose outputs are wanted, or "all".

    Raises:
        InvalidGraphError: The graph or *outputs* is unusable; the message says which node, and what to do.
    """
    nodes = _nodes(graph)
    for node, content in nodes.items():
        _check_node(node, content)
    for node, content in nodes.items():
        _check_links(node, content, nodes)
    canonical, size = _canonical(nodes), _size(nodes)
    if size > MOST_BYTES:
        what = f"the graph has {size / 1024:.0f} KiB, more than the {MOST_BYTES // 1024} that are kept"
        raise InvalidGraphError(f"{what}: upload its pictures to the server, and name them in the graph")
    return Graph(nodes, canonical, _wanted(outputs, nodes))


def digest(graph: Graph, name: str | None = None) -> str:
    """A SHA-256, in hexadecimal digits, of what a prompt asks for: the graph, the wanted outputs, and its *name*."""
    asked = json.dumps([graph.wanted, name]).encode()
    return hashlib.sha256(asked + b"\n" + graph.canonical).hexdigest()


def is_text(value: str) -> bool:
    """Whether *value* can be written as UTF-8: a half of a character cannot, and no journal keeps it."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nodes(graph: object) -> dict[str, dict[str, Any]]:
    if not isinstance(graph, dict):
        read = ": read it with json.loads" if isinstance(graph, str | bytes) else ""
        raise InvalidGraphError(f"a graph is a dict of nodes, not {_a(graph)}{read}")
    if isinstance(graph.get("nodes"), list) and "class_type" not in graph:
        raise InvalidGraphError(f"the workflow is of the format of the editor, which no server runs: {EXPORT}")
    if isinstance(graph.get("prompt"), dict) and "class_type" not in graph["prompt"]:
        raise InvalidGraphError('the graph is wrapped, as in the body of POST /prompt: give what is under "prompt"')
    if not graph:
        raise InvalidGraphError("the graph is empty: it has no nodes")
    return graph


def _check_node(node: object, content: object) -> None:
    if not isinstance(node, str):
        raise InvalidGraphError(f"the id of a node is a text, not {_a(node)}: write {brief(repr(str(node)), 40)}")
    if not isinstance(content, dict):
        raise InvalidGraphError(
            f"{titled(node, '', '')} is {_a(content)}, not a dict with class_type and inputs: {EXPORT}"
        )
    kind = content.get("class_type")
    if not isinstance(kind, str) or not kind:
        raise InvalidGraphError(f"{_title(node, content)} has no class_type: {EXPORT}")
    if not isinstance(content.get("inputs"), dict):
        raise InvalidGraphError(f'{_title(node, content)} has no inputs: write "inputs": {{}} if it takes none')


def _check_links(node: str, content: dict[str, Any], nodes: Mapping[str, object]) -> None:
    for name, value in content["inputs"].items():
        match value:
            case [str(source), int() | float()] if source not in nodes:
                linked = f"{_title(node, content)} takes its input {brief(str(name), 40)} from node {brief(source, 40)}"
                raise InvalidGraphError(f"{linked}, which the graph does not have")
            case [int(source), int()] if str(source) in nodes:
                what = f"{_title(node, content)} names node {source} as a number in its input {brief(str(name), 40)}"
                raise InvalidGraphError(f'{what}: the id of a node is a text, "{source}"')


def _title(node: str, content: Mapping[str, Any]) -> str:
    return Graph({node: content}, b"").title(node)


def _wanted(outputs: object, nodes: Mapping[str, object]) -> tuple[str, ...] | None:
    if outputs == "all":
        return None
    if isinstance(outputs, str) or not isinstance(outputs, Sequence) or not outputs:
        raise InvalidGraphError(
            f'outputs is "all" or a list of the ids of nodes, as ["9"], not {brief(repr(outputs), 40)}'
        )
    if missing := [brief(repr(one), 40) for one in outputs if not isinstance(one, str) or one not in nodes]:
        has = ", ".join(brief(one, 20) for one in list(nodes)[:20])
        raise InvalidGraphError(f"outputs names {', '.join(missing[:5])}, and the nodes of the graph are {has}")
    return tuple(sorted(set(outputs)))


def _canonical(nodes: Mapping[str, Mapping[str, Any]]) -> bytes:
    plain = {}
    for node, content in nodes.items():
        try:
            inputs = _plain(content["inputs"])
        except ValueError as error:
            raise InvalidGraphError(f"{_title(node, content)} has an input that is not JSON: {error}") from None
        plain[node] = {"class_type": content["class_type"], "inputs": inputs}
    try:
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:  # an integer of more digits than Python writes
        raise InvalidGraphError(f"the graph is not JSON: {brief(str(error), 100)}") from None


def _size(nodes: Mapping[str, Mapping[str, Any]]) -> int:
    """Bytes of the graph as JSON, with titles and whatever else it has besides its inputs."""
    try:
        return len(msgspec.json.encode(nodes))
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidGraphError(f"the graph is not JSON that can be kept: {brief(str(error), 100)}") from None


def _plain(value: object, depth: int = 0) -> object:
    """*value* as the server reads it from JSON. Raises ValueError, with what is wrong, for what JSON does not have."""
    if depth > MOST_DEPTH:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
    match value:
        case str() if not value.isascii() and not is_text(value):
            raise ValueError("it holds a half of a character")
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case float() if math.isnan(value) or math.isinf(value):
            raise ValueError(f"it is {value}")
        case float():
            return int(value) if value.is_integer() and abs(value) <= LARGEST_WHOLE else float(value)
        case list() | tuple():
            return [_plain(one, depth + 1) for one in value]
        case dict():
            if wrong := [key for key in value if not isinstance(key, str)]:
                raise ValueError(f"a key is {_a(wrong[0])}, not a text")
            return {key: _plain(one, depth + 1) for key, one in value.items()}
    raise ValueError(f"it holds {_a(value)}")


def _a(value: object) -> str:
    """What *value* is, without showing it."""
    return "null" if value is None else f"a value of type {type(value).__name__}"
