"""What is done about a full memory or a broken context, one step further each time; and nodes that cost money."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.comfyui.errors import (
    BrokenContextError,
    MemoryFullError,
    OutOfMemoryError,
    PaidNodesError,
    PoisonedContextError,
    PromptFailedError,
    PromptRefusedError,
)
from adapters.comfyui.graph import check
from adapters.comfyui.memory import RELIEVED, Trouble, asked, next_step, trouble_of
from adapters.comfyui.paid import Paid, consent, costs_money, paid_nodes


def steps(trouble: Trouble, *, has_policy: bool = False, can_restart: bool = True) -> list[str]:
    relieved, taken = "", []
    while True:
        taken.append(step := next_step(trouble, relieved, has_policy=has_policy, can_restart=can_restart))
        if step == "ask":
            return taken
        relieved = RELIEVED[step]


def test_a_full_memory_is_freed_then_the_server_restarted_then_a_person_asked() -> None:
    assert steps("memory") == ["free", "restart", "ask"]


def test_other_arguments_are_tried_only_with_the_users_policy() -> None:
    assert steps("memory", has_policy=True) == ["free", "restart", "argue", "ask"]


def test_a_broken_context_is_never_freed() -> None:
    assert steps("context", has_policy=True) == ["restart", "ask"]


def test_a_server_of_another_program_is_never_restarted() -> None:
    assert steps("memory", has_policy=True, can_restart=False) == ["free", "ask"]
    assert steps("context", has_policy=True, can_restart=False) == ["ask"]


def test_a_context_that_breaks_after_the_memory_was_freed_is_restarted() -> None:
    assert next_step("context", "freed", has_policy=False, can_restart=True) == "restart"


def test_what_a_failure_says_of_the_server() -> None:
    assert trouble_of(MemoryFullError("a")) == "memory"
    assert trouble_of(PoisonedContextError("a")) == "context"
    assert trouble_of(PromptFailedError("a")) is None


@pytest.mark.parametrize(
    ("trouble", "can_restart", "kind", "question", "first"),
    [
        ("memory", True, OutOfMemoryError, "memory:cat", "Choose a smaller picture"),
        ("memory", False, OutOfMemoryError, "memory:cat", "Choose a smaller picture"),
        ("context", True, BrokenContextError, "context:cat", "Check the graphics driver"),
        ("context", False, BrokenContextError, "context:cat", "Restart the server"),
    ],
)
def test_the_last_step_asks(trouble: Trouble, can_restart: bool, kind: type, question: str, first: str) -> None:
    error = asked(trouble, MemoryFullError("KSampler (node 3) failed"), "cat", can_restart=can_restart)
    assert type(error) is kind
    assert error.remedy is not None
    assert error.remedy.question == question
    assert error.remedy.sentence.startswith(first)
    assert "KSampler (node 3)" in str(error)
    assert ("did not start this server" in str(error)) is not can_restart


INFO: dict[str, Any] = {
    "EmptyImage": {"category": "image", "api_node": False},
    "KlingImage": {"category": "api node/image/Kling", "api_node": True},
    "VeoVideo": {"category": "partner/video/Veo", "api_node": True},
    "OldApi": {"category": "api node/image"},
    "OwnApi": {"category": "mine", "api_node": True},
}
GRAPH = check(
    {
        "1": {"class_type": "EmptyImage", "inputs": {}},
        "2": {"class_type": "KlingImage", "inputs": {"image": ["1", 0]}, "_meta": {"title": "Make it move"}},
        "3": {"class_type": "Unknown", "inputs": {}},
        "4": {"class_type": "OldApi", "inputs": {}},
    }
)


def test_nodes_that_cost_money_are_told_by_the_server() -> None:
    assert [name for name in INFO if costs_money(INFO[name])] == ["KlingImage", "VeoVideo", "OldApi", "OwnApi"]
    assert paid_nodes(GRAPH, INFO) == ("Make it move (node 2)", "OldApi (node 4)")


@pytest.mark.parametrize("info", [None, [], {}, {"category": None}, {"category": 7, "api_node": "yes"}])
def test_a_class_of_which_little_is_said_costs_nothing(info: object) -> None:
    assert not costs_money(info)


@pytest.mark.parametrize(
    ("paid", "answer", "kind"),
    [
        ("allow", None, None),
        ("allow", False, None),
        ("ask", True, None),
        ("ask", None, PaidNodesError),
        ("ask", False, PromptRefusedError),
        ("refuse", None, PromptRefusedError),
        ("refuse", True, PromptRefusedError),
    ],
)
def test_money_needs_consent(paid: Paid, answer: bool | None, kind: type | None) -> None:
    error = consent(("Veo (node 2)",), paid, answer, "cat")
    assert (None if error is None else type(error)) is kind
    if error is not None:
        assert "Veo (node 2)" in str(error)
    assert consent((), paid, answer, "cat") is None


def test_the_question_is_whether_to_pay_for_this_prompt() -> None:
    error = consent(tuple(f"Veo (node {number})" for number in range(8)), "ask", None, "cat")
    assert isinstance(error, PaidNodesError)
    assert error.remedy is not None
    assert error.remedy.question == "pay:cat"
    assert "Veo (node 4) and 3 more costs money" in error.remedy.sentence
