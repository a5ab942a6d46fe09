"""What a ComfyUI server says by its websocket."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.messages import (
    Cached,
    Executed,
    Executing,
    Failed,
    Interrupted,
    Message,
    Started,
    Step,
    Succeeded,
    parse,
)

ID = "00000000-0000-5000-8000-000000000001"
KEY = "sk-secret"
PICTURE = {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}
FAILURE = {
    "node_id": "2",
    "node_type": "KSampler",
    "exception_type": "torch.OutOfMemoryError",
    "exception_message": "Allocation on device",
    "current_inputs": {"key": [KEY]},
    "traceback": [],
}


def said(kind: str, **data: Any) -> Message | None:
    return parse(json.dumps({"type": kind, "data": {"prompt_id": ID, **data}}))


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("execution_start", {"timestamp": 1}, Started(ID)),
        ("execution_cached", {"nodes": ["1", "2"], "timestamp": 1}, Cached(ID, ("1", "2"))),
        ("executing", {"node": "3", "display_node": "3"}, Executing(ID, "3")),
        ("executing", {"node": None}, Executing(ID, None)),
        ("progress", {"value": 3, "max": 20, "node": "3"}, Step(ID, "3", 3, 20)),
        ("progress", {"value": float("nan"), "max": 20, "node": "3"}, Step(ID, "3", 0, 20)),
        ("executed", {"node": "9", "display_node": "9", "output": PICTURE}, Executed(ID, "9", PICTURE)),
        ("executed", {"node": "9", "output": None}, Executed(ID, "9", {})),
        ("execution_success", {"timestamp": 1}, Succeeded(ID)),
        ("execution_interrupted", {"node_id": "2", "executed": []}, Interrupted(ID)),
        (
            "execution_error",
            FAILURE,
            Failed(ID, ExecutionError("torch.OutOfMemoryError", "Allocation on device", "2", "KSampler")),
        ),
    ],
)
def test_a_message_of_a_run(kind: str, data: dict[str, Any], message: Message) -> None:
    assert said(kind, **data) == message


def test_no_inputs_leave_a_message() -> None:
    assert KEY not in repr(said("execution_error", **FAILURE))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("status", {"status": {}}),
        ("progress_state", {"nodes": {}}),
        ("crystools.monitor", {"cpu": 1}),
        ("executing", {}),
        ("executing", {"node": []}),
        ("progress", {"node": "3", "value": "1", "max": 2}),
        ("progress", {"node": None, "value": 1, "max": 2}),
        ("executed", {}),
        ("execution_cached", {"nodes": None}),
    ],
)
def test_other_messages_are_passed_over(kind: str, data: dict[str, Any]) -> None:
    assert said(kind, **data) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "3", "null", "[]", '{"type": "executing"}', '{"type": "executing", "data": {"node": "3"}}', b"\xff"],
)
def test_what_is_no_message_of_a_prompt_is_passed_over(text: str | bytes) -> None:
    assert parse(text) is None


def test_a_message_without_end_of_nesting_is_passed_over() -> None:
    assert parse("[" * 100_000) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NUMBERS = st.sampled_from([0, 3.5, float("nan"), float("inf"), 2**70]) | VALUES
FIELDS = {
    "node": st.sampled_from(["3", 7, None]) | VALUES,
    "value": NUMBERS,
    "max": NUMBERS,
    "nodes": st.lists(VALUES, max_size=2) | VALUES,
    "output": st.dictionaries(st.text(max_size=3), VALUES, max_size=2) | VALUES,
    "exception_type": VALUES,
}
KINDS = ["execution_start", "execution_cached", "executing", "progress", "executed", "execution_error", "status"]


@given(st.sampled_from(KINDS), st.fixed_dictionaries({}, optional=FIELDS))
@example("progress", {"node": "3", "value": float("inf"), "max": 2**70})
@example("executed", {"node": "3", "output": {"text": ["\ud800", 2**70]}})
def test_any_message_can_be_journalled(kind: str, data: dict[str, Any]) -> None:
    message = said(kind, **data)
    if message is not None:
        assert message.prompt_id == ID
        assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(message)), type(message))
