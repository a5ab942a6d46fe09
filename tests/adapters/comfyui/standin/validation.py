"""Whether a prompt can run, and what a server answers if not: its error, and the errors of its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.adapters.comfyui.standin.nodes import CLASSES, Folders

Graph = dict[str, dict[str, Any]]


@dataclass
class Verdict:
    """What is wrong with a prompt. ``error`` is None if a part of it can run."""

    error: dict[str, Any] | None
    outputs: list[str] = field(default_factory=list)
    node_errors: Any = field(default_factory=dict)


def problem(kind: str, message: str, details: str = "", **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}


def missing_class(graph: Graph, node_id: str, is_new: bool) -> dict[str, Any] | None:
    """The error of a node whose class the server does not have."""
    node = graph[node_id]
    name = node.get("class_type") if "class_type" in node else None
    if name in CLASSES:
        return None
    details = f"Node ID '#{node_id}'"
    if not is_new:
        without = "Cannot execute because a node is missing the class_type property."
        return problem(
            "invalid_prompt",
            without if name is None else f"Cannot execute because node {name} does not exist.",
            details,
        )
    title = node.get("_meta", {}).get("title", name)
    words = f"Node '{title}' not found. The custom node may not be installed."
    if name is None:
        named = title or f"ID #{node_id}"
        words = f"Node '{named}' has no class_type. The workflow may be corrupted or a custom node is missing."
    return problem("missing_node_type", words, details, node_id=node_id, class_type=name, node_title=title)


def convert(kind: Any, value: Any) -> Any:
    match kind:
        case "INT":
            return int(value)
        case "FLOAT":
            return float(value)
        case "STRING":
            return str(value)
    return value


def check_value(name: str, spec: Any, value: Any) -> dict[str, Any] | None:
    """What is wrong with a value that is no link."""
    kind, options = spec
    extra = {"input_name": name, "input_config": spec, "received_value": value}
    if "min" in options and value < options["min"]:
        return problem("value_smaller_than_min", f"Value {value} smaller than min of {options['min']}", name, **extra)
    if "max" in options and value > options["max"]:
        return problem("value_bigger_than_max", f"Value {value} bigger than max of {options['max']}", name, **extra)
    if isinstance(kind, list) and value not in kind:
        is_long = len(kind) > 20
        listed = f"(list of length {len(kind)})" if is_long else str(kind)
        extra["input_config"] = None if is_long else spec
        return problem("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {listed}", **extra)
    return None


def check_input(graph: Graph, inputs: dict[str, Any], name: str, spec: Any) -> dict[str, Any] | None:
    """What is wrong with an input itself; values are converted in place."""
    if name not in inputs:
        return problem("required_input_missing", "Required input is missing", name, input_name=name)
    value, kind = inputs[name], spec[0]
    extra = {"input_name": name, "input_config": spec}
    if isinstance(value, list):
        if len(value) != 2:
            words = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            return problem("bad_linked_input", words, name, **extra, received_value=value)
        given = CLASSES[graph[value[0]]["class_type"]].gives[value[1]]
        if given != kind:
            details = f"{name}, received_type({given}) mismatch input_type({kind})"
            words = "Return type mismatch between linked nodes"
            return problem("return_type_mismatch", words, details, **extra, received_type=given, linked_node=value)
        return None
    try:
        inputs[name] = value = convert(kind, value)
    except (ValueError, TypeError) as error:
        return problem(
            "invalid_input_type",
            f"Failed to convert an input value to a {kind} value",
            f"{name}, {value}, {error}",
            **extra,
            received_value=value,
            exception_message=str(error),
        )
    return check_value(name, spec, value)


def check_node(graph: Graph, node_id: str, folders: Folders, seen: dict[str, list[Any] | None]) -> bool:
    """Whether a node and all before it are right. *seen* gets its errors; None if only one before it has some."""
    if node_id in seen:
        return seen[node_id] == []
    errors: list[Any] = []
    is_fed = True
    inputs = graph[node_id]["inputs"]
    for name, spec in CLASSES[graph[node_id]["class_type"]].inputs(folders).items():
        wrong = check_input(graph, inputs, name, spec)
        if wrong is not None:
            errors.append(wrong)
        elif isinstance(inputs[name], list):
            try:
                is_fed = check_node(graph, inputs[name][0], folders, seen) and is_fed
            except KeyError as error:
                extra = {"exception_type": "KeyError", "traceback": []}
                seen[node_id] = [
                    problem("exception_during_validation", "Exception when validating node", str(error), **extra)
                ]
                return False
    seen[node_id] = errors if errors or is_fed else None
    return seen[node_id] == []


def validate(graph: Graph, folders: Folders, is_new: bool) -> Verdict:
    """Check a prompt as the server does: each output on its own; those that are right run."""
    none: Any = {} if is_new else []
    for node_id in graph:
        error = missing_class(graph, node_id, is_new)
        if error is not None:
            return Verdict(error, [], none)
    outputs = [node_id for node_id in graph if CLASSES[graph[node_id]["class_type"]].is_output]
    if not outputs:
        return Verdict(problem("prompt_no_outputs", "Prompt has no outputs"), [], none)
    seen: dict[str, list[Any] | None] = {}
    node_errors: dict[str, Any] = {}
    good: list[str] = []
    lines: list[str] = []
    for output in outputs:
        if check_node(graph, output, folders, seen):
            good.append(output)
            continue
        lines += [f"{one['message']}: {one['details']}" for one in seen[output] or []]
        for node_id, errors in seen.items():
            if errors:
                entry = {"errors": errors, "dependent_outputs": [], "class_type": graph[node_id]["class_type"]}
                node_errors.setdefault(node_id, entry)["dependent_outputs"].append(output)
    if good:
        return Verdict(None, good, node_errors)
    words = "Prompt outputs failed validation"
    return Verdict(problem("prompt_outputs_failed_validation", words, "\n".join(lines)), [], node_errors)
