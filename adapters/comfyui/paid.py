"""Which nodes of a graph cost money, and whether they may run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from adapters.comfyui.errors import PaidNodesError, PromptRefusedError
from adapters.comfyui.graph import Graph
from events.evidence import Remedy

Paid: TypeAlias = Literal["ask", "allow", "refuse"]
"""Whether nodes that cost money may run: a person is asked, they may, or they may not."""

CATEGORIES = ("api node", "partner")
"""The first words of the categories of such nodes, of older and newer servers."""

MOST_NAMED = 5


def costs_money(info: object) -> bool:
    """Whether ``/object_info`` says of a class of nodes that it calls a service that takes money."""
    if not isinstance(info, Mapping):
        return False
    category = info.get("category")
    root = category.partition("/")[0].strip().casefold() if isinstance(category, str) else ""
    return info.get("api_node") is True or root.removesuffix("s") in CATEGORIES


def paid_nodes(graph: Graph, object_info: Mapping[str, Any]) -> tuple[str, ...]:
    """The titles of the nodes of *graph* that cost money, in its order.

    Args:
        graph: The graph.
        object_info: What the server says of its classes (``GET /object_info``).
    """
    return tuple(graph.title(node) for node in graph.nodes if costs_money(object_info.get(graph.class_of(node))))


def question_of(name: str) -> str:
    """The name of the question whether the nodes of the prompt *name* may cost money."""
    return f"pay:{name}"


def consent(nodes: tuple[str, ...], paid: Paid, answer: bool | None, name: str) -> Exception | None:
    """What keeps a prompt from running; None if it may run.

    Args:
        nodes: The titles of its nodes that cost money.
        paid: What the caller says of them.
        answer: What a person has answered to ``question_of(name)``; None for nothing yet.
        name: The prompt's.
    """
    if not nodes or paid == "allow" or (paid == "ask" and answer is True):
        return None
    more = f" and {len(nodes) - MOST_NAMED} more" if len(nodes) > MOST_NAMED else ""
    named = ", ".join(nodes[:MOST_NAMED]) + more
    if paid == "refuse":
        return PromptRefusedError(f'the prompt has nodes that cost money: {named}; paid="refuse" keeps it from running')
    if answer is False:
        return PromptRefusedError(f"the prompt has nodes that cost money: {named}; a person has refused to pay")
    remedy = Remedy(f"Each run of {named} costs money. Answer yes to pay for this prompt.", question=question_of(name))
    return PaidNodesError(f"the prompt has nodes that cost money: {named}", remedy=remedy)
