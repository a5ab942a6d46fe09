"""What a workflow file is: a graph that a server runs, or a drawing of one, whose nodes and models are read out. Pure.

A browser saves workflows in two formats. That of the API is a graph, ``{"3": {"class_type": ..., "inputs": ...}}``. The
other one, here "ui", has what is drawn: ``nodes``, ``links``, subgraphs. Only the browser makes the one of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from adapters.comfyui.errors import InvalidGraphError

MOST_BYTES = 32 * 1024 * 1024
"""Bytes of a workflow file that are read."""

SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf", ".onnx")
"""How the name of a model ends."""

DRAWN = "of the format that the browser saves for itself, which no server runs"
"""What a workflow of the format "ui" is, in words."""

OFF = (2, 4)
"""The modes of nodes that do not run: muted, and bypassed."""

ONLY_DRAWN = frozenset({"Note", "MarkdownNote", "PrimitiveNode", "Reroute"})
"""The nodes that the browser alone knows: no server has them."""


class NodeClass(msgspec.Struct, frozen=True):
    """A class of nodes that a workflow has.

    Args:
        name: Its name.
        pack: The pack of custom nodes that it comes from, as its registry or GitHub names it; "" if it is not said.
    """

    name: str
    pack: str = ""


class Model(msgspec.Struct, frozen=True):
    """A model that a workflow names.

    Args:
        name: Its file, as its node names it: perhaps with a subfolder.
        folder: The folder of models that it belongs to, such as "checkpoints"; "" if it is not said.
        url: Where it is; "" if it is not said.
        node: The class of the first node that names it.
    """

    name: str
    folder: str = ""
    url: str = ""
    node: str = ""


class Workflow(msgspec.Struct, frozen=True):
    """A workflow file.

    Args:
        format: "api", which a server runs, or "ui".
        graph: The graph, of the format "api".
        nodes: The classes of the nodes that would run, of the format "ui".
        models: The models that they name, of the format "ui".
    """

    format: Literal["api", "ui"]
    graph: dict[str, Any] = {}
    nodes: tuple[NodeClass, ...] = ()
    models: tuple[Model, ...] = ()


class Missing(msgspec.Struct, frozen=True):
    """What a workflow needs and a server has not."""

    nodes: tuple[NodeClass, ...] = ()
    models: tuple[Model, ...] = ()


def read_workflow(data: bytes) -> Workflow:
    """The workflow in the bytes of a file.

    Raises:
        InvalidGraphError: It is too large, no JSON, or no workflow. The message says what it is instead.
    """
    if len(data) > MOST_BYTES:
        raise InvalidGraphError(f"it is larger than {MOST_BYTES // 1024**2} MiB, which no workflow is")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidGraphError(f"it is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidGraphError(f"it is not a workflow: its JSON is {_kind(found)}, and not an object")
    if isinstance(found.get("nodes"), list):
        inner = _inner(found)
        nodes = list(_nodes(found["nodes"], inner))
        return Workflow("ui", nodes=_classes(nodes, inner), models=_models(found, nodes))
    if found and all(isinstance(node, dict) and isinstance(node.get("class_type"), str) for node in found.values()):
        return Workflow("api", graph=found)
    if isinstance(found.get("prompt"), dict):
        raise InvalidGraphError("it is a request to a server, and no workflow: keep what is under 'prompt' alone")
    raise InvalidGraphError("it is not a workflow: it has no nodes, neither those of the API format nor drawn ones")


def missing(workflow: Workflow, object_info: Mapping[str, Any]) -> Missing:
    """What *workflow*, of the format "ui", needs and a server lacks.

    Args:
        workflow: As read.
        object_info: What ``/object_info`` of the server answers: its classes of nodes, and what their inputs may be.
    """
    offered = {name: _offered(node) for name, node in object_info.items()}
    everywhere = {_plain(file) for lists in offered.values() for options in lists for file in options}
    return Missing(
        nodes=tuple(node for node in workflow.nodes if node.name not in object_info),
        models=tuple(
            model
            for model in workflow.models
            if _plain(model.name) not in everywhere and _is_chosen(model, offered.get(model.node))
        ),
    )


def _is_chosen(model: Model, lists: list[list[str]] | None) -> bool:
    """Whether *model* is a choice from files, and not a text that ends like one: as its node, or the workflow, says."""
    if lists is None or model.folder or model.url:
        return True
    return any(not options or any(map(_is_model, options)) for options in lists)


def _offered(node: Any) -> list[list[str]]:
    """The lists that the inputs of a class of nodes choose from."""
    inputs = node.get("input") if isinstance(node, dict) else None
    found = []
    for group in inputs.values() if isinstance(inputs, dict) else ():
        for said in group.values() if isinstance(group, dict) else ():
            match said:
                case [list(options), *_] | ["COMBO", {"options": list(options)}, *_]:
                    found.append([option for option in options if isinstance(option, str)])
    return found


def _nodes(outer: list[Any], inner: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """The nodes that would run. One that stands for a subgraph, and is active, is followed by the nodes in it."""
    seen, open_lists = set[str](), [outer]
    while open_lists:
        for node in open_lists.pop():
            if not isinstance(node, dict) or not isinstance(name := node.get("type"), str) or node.get("mode") in OFF:
                continue
            yield node
            if name in inner and name not in seen:
                seen.add(name)
                open_lists.append(inner[name])


def _inner(found: dict[str, Any]) -> dict[str, list[Any]]:
    """The nodes of each subgraph, and of each group node of older browsers, by the type of what stands for it."""
    inner: dict[str, list[Any]] = {}
    match found.get("definitions"):
        case {"subgraphs": list(subgraphs)}:
            for one in subgraphs:
                match one:
                    case {"id": str(name), "nodes": list(nodes)}:
                        inner[name] = nodes
    match found.get("extra"):
        case {"groupNodes": dict(groups)}:
            for name, one in groups.items():
                match one:
                    case {"nodes": list(nodes)}:
                        inner[f"workflow>{name}"] = inner[f"workflow/{name}"] = nodes
    return inner


def _classes(nodes: list[dict[str, Any]], inner: Mapping[str, list[Any]]) -> tuple[NodeClass, ...]:
    packs: dict[str, str] = {}
    for node in nodes:
        if node["type"] in ONLY_DRAWN or node["type"] in inner:
            continue
        said = _properties(node)
        pack = next((one for key in ("cnr_id", "aux_id") if isinstance(one := said.get(key), str)), "")
        packs[node["type"]] = packs.get(node["type"]) or pack
    return tuple(NodeClass(name, pack) for name, pack in packs.items())


def _models(found: dict[str, Any], nodes: list[dict[str, Any]]) -> tuple[Model, ...]:
    """The models that *nodes* have chosen, with what they or the workflow say about them."""
    told = {(model.name, model.node): model for model in _listed(found.get("models"), "")}
    chosen: dict[str, Model] = {}
    for node in nodes:
        told |= {(model.name, model.node): model for model in _listed(_properties(node).get("models"), node["type"])}
        for name in filter(_is_model, _texts(node.get("widgets_values"))):
            model = told.get((name, node["type"])) or told.get((name, "")) or Model(name)
            chosen.setdefault(name, msgspec.structs.replace(model, node=node["type"]))
    return tuple(chosen.values())


def _listed(models: Any, node: str) -> Iterator[Model]:
    for one in models if isinstance(models, list) else ():
        match one:
            case {"name": str(name)}:
                folder, url = one.get("directory"), one.get("url")
                yield Model(name, folder if isinstance(folder, str) else "", url if isinstance(url, str) else "", node)


def _texts(values: Any) -> Iterator[str]:
    """The texts in the values of widgets: a list, or an object; of a switch that is off, none."""
    open_values = [values]
    while open_values:
        match open_values.pop():
            case str(text):
                yield text
            case list(several):
                open_values += reversed(several)
            case dict(several) if several.get("on") is not False:
                open_values += reversed(several.values())


def _properties(node: dict[str, Any]) -> dict[str, Any]:
    return said if isinstance(said := node.get("properties"), dict) else {}


def _is_model(text: str) -> bool:
    return text.lower().endswith(SUFFIXES)


def _plain(name: str) -> str:
    """*name* with the separators of a system that is not Windows."""
    return name.replace("\\", "/")


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
