"""Laws of graphs and of refusals: equal prompts have one digest, and no answer of a server is too odd."""

from __future__ import annotations

import copy
import random
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.errors import InvalidGraphError
from adapters.comfyui.graph import check, digest
from adapters.comfyui.refusals import failed, partial, refused
from events.errors import NeedsPerson, Permanent, Retryable

IDS = ("1", "2", "3", "4:1")
NAMES = ("seed", "text", "ckpt_name", "image", "api_key", "model")
SECRET = "sk-0123456789abcdefghij"
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
VALUES = (
    SCALARS | st.tuples(st.sampled_from(IDS[:1]), st.just(0)).map(list) | JSON.map(lambda value: {"__value__": value})
)
NODES = st.fixed_dictionaries(
    {
        "class_type": st.sampled_from(["KSampler", "SaveImage", "LoadImage"]),
        "inputs": st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4),
    },
    optional={"_meta": st.fixed_dictionaries({}, optional={"title": JSON})},
)
GRAPHS = st.dictionaries(st.sampled_from(IDS), NODES, max_size=3).map(
    lambda nodes: {"1": {"class_type": "Own", "inputs": {}}, **nodes}
)


def shuffled(value: Any, order: random.Random) -> Any:
    """*value* with the keys of each mapping in another order."""
    if isinstance(value, list):
        return [shuffled(one, order) for one in value]
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(one, order)) for key, one in value.items()]
    order.shuffle(items)
    return dict(items)


@given(GRAPHS, st.randoms(), JSON)
def test_neither_order_nor_titles_make_another_prompt(
    graph: dict[str, Any], order: random.Random, title: object
) -> None:
    other = shuffled(graph, order)
    other["1"]["_meta"] = {"title": title}
    assert digest(check(other)) == digest(check(graph))


@given(GRAPHS, st.sampled_from(NAMES), VALUES)
def test_any_change_of_an_input_makes_another_prompt(graph: dict[str, Any], name: str, value: object) -> None:
    other = copy.deepcopy(graph)
    other["1"]["inputs"][name] = value
    is_equal = name in graph["1"]["inputs"] and same(graph["1"]["inputs"][name], value)
    assert (digest(check(other)) == digest(check(graph))) is is_equal


def same(one: object, other: object) -> bool:
    """Whether a server sees the same in both: true is not 1, though Python says so."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float | int) and isinstance(other, float | int) and max(abs(one), abs(other)) > 2**53:
        return type(one) is type(other) and one == other
    return one == other


@given(JSON | st.dictionaries(st.sampled_from(IDS), JSON | NODES))
def test_what_is_no_graph_is_refused_in_one_line(graph: object) -> None:
    error = problem_of(graph)
    assert error is None or is_a_sentence(error)


def problem_of(graph: object) -> InvalidGraphError | None:
    try:
        check(graph)
    except InvalidGraphError as error:
        return error
    return None


ERRORS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["value_not_in_list", "custom_validation_failed", "invalid_input_type", "odd"]) | JSON,
        "message": st.text(max_size=20) | JSON,
        "details": st.text(max_size=20) | JSON,
        "extra_info": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "input_name": st.sampled_from(NAMES) | JSON,
                "received_value": st.sampled_from(["cat.png", SECRET, {"current_inputs": {"api_key": [SECRET]}}])
                | JSON,
                "input_config": st.sampled_from([None, [["a.ckpt"], {}], ["COMBO", {"options": []}]]) | JSON,
                "node_id": JSON,
                "class_type": JSON,
            },
        ),
    },
)
NODE_ERRORS = JSON | st.dictionaries(
    st.sampled_from(IDS) | st.text(max_size=3),
    JSON
    | st.fixed_dictionaries({"errors": st.lists(ERRORS | JSON, max_size=3) | JSON, "class_type": st.text() | JSON}),
    max_size=3,
)
TYPES = st.sampled_from(
    ["invalid_prompt", "missing_node_type", "prompt_outputs_failed_validation", "prompt_no_outputs"]
)
BODIES = JSON | st.fixed_dictionaries(
    {"error": JSON | ERRORS | st.fixed_dictionaries({"type": TYPES, "details": st.just("Node ID '#1'")})},
    optional={"node_errors": NODE_ERRORS},
)
GRAPH = check(
    {
        "1": {"class_type": "Own", "inputs": {"api_key": SECRET, "text": SECRET, "ckpt_name": SECRET}},
        "2": {"class_type": "KSampler", "inputs": {"seed": 7}, "_meta": {"title": f"api_key={SECRET}"}},
    }
)


def is_a_sentence(error: Exception) -> bool:
    """Whether *error* is one of ours, whose message and question are each one short line without secrets."""
    texts = [str(error)]
    if isinstance(error, NeedsPerson):
        assert error.remedy is not None
        assert error.remedy.question
        texts += [error.remedy.question, error.remedy.sentence]
    for text in texts:
        assert text.isprintable()
        assert len(text) < 8000
        assert SECRET not in text
    return isinstance(error, Permanent | Retryable | NeedsPerson)


@given(st.sampled_from([400, 403, 413, 500, 503]), BODIES)
def test_any_answer_of_a_server_is_one_of_our_errors(status: int, body: object) -> None:
    assert is_a_sentence(refused(status, body, GRAPH))


@given(NODE_ERRORS)
@example({"1": {"errors": 7, "class_type": "SaveImage"}})
def test_any_errors_of_nodes_are_one_of_our_errors(node_errors: object) -> None:
    assert is_a_sentence(partial(node_errors, GRAPH))


@given(
    st.text(max_size=30) | st.sampled_from(["torch.OutOfMemoryError", "RuntimeError"]),
    st.text() | st.sampled_from([f"Allocation on device {SECRET}", f"current_inputs: {{'key': ['{SECRET}']}}"]),
    st.sampled_from(IDS) | st.text(max_size=5),
    st.text(max_size=5),
)
def test_any_failure_of_a_node_is_one_of_our_errors(kind: str, message: str, node: str, node_type: str) -> None:
    assert is_a_sentence(failed(ExecutionError(kind, message, node, node_type), GRAPH, "cat"))
