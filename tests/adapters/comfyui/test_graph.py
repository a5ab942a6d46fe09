"""A graph is checked before it is sent: what is wrong is said of the node, with what to do."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from adapters.comfyui.errors import InvalidGraphError
from adapters.comfyui.graph import MOST_BYTES, check, digest, titled
from recovery.serialization.writing import MAX_BYTES

GRAPH: dict[str, Any] = {
    "4": {
        "class_type": "CheckpointLoaderSimple",
        "inputs": {"ckpt_name": "sd15.safetensors"},
        "_meta": {"title": "Load Checkpoint"},
    },
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512, "batch_size": 1}},
    "3": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "latent_image": ["5", 0], "seed": 7, "cfg": 8.0}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "cat"}},
}


def changed(node: str, **inputs: object) -> dict[str, Any]:
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"] |= inputs
    return graph


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (None, "a graph is a dict of nodes, not null"),
        ([], "not a value of type list"),
        ('{"4": 1}', "read it with json.loads"),
        ({}, "the graph is empty"),
        ({"nodes": [], "links": [], "version": 0.4}, "Workflow > Export (API)"),
        ({"prompt": GRAPH, "client_id": "a"}, 'give what is under "prompt"'),
        ({4: GRAPH["4"]}, "the id of a node is a text, not a value of type int: write '4'"),
        ({"4": "CheckpointLoaderSimple"}, "node 4 is a value of type str, not a dict with class_type and inputs"),
        ({"4": {"inputs": {}, "_meta": {"title": "Load"}}}, "Load (node 4) has no class_type"),
        ({"4": {"class_type": "KSampler"}}, 'KSampler (node 4) has no inputs: write "inputs": {}'),
        (
            changed("3", model=["44", 0]),
            "KSampler (node 3) takes its input model from node 44, which the graph does not",
        ),
        (changed("3", model=[4, 0]), 'the id of a node is a text, "4"'),
        (changed("3", cfg=float("nan")), "KSampler (node 3) has an input that is not JSON: it is nan"),
        (changed("3", cfg=float("-inf")), "it is -inf"),
        (changed("9", filename_prefix="\ud83d"), "SaveImage (node 9) has an input that is not JSON: it holds a half"),
        ({"4": GRAPH["4"] | {"_meta": {"title": "\ud83d"}}}, "the graph is not JSON that can be kept"),
        (changed("3", cfg={1, 2}), "it holds a value of type set"),
        (changed("3", cfg={1: 2}), "a key is a value of type int, not a text"),
        (changed("3", cfg=nested(70)), "nested more than 64 deep"),
        (changed("3", cfg=10**5000), "the graph is not JSON"),
        (changed("4", ckpt_name="x" * MOST_BYTES), "900 KiB, more than the 900 that are kept: upload its pictures"),
    ],
)
def test_an_unusable_graph_is_refused_in_words(graph: object, said: str) -> None:
    with pytest.raises(InvalidGraphError) as raised:
        check(graph)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_graph_that_holds_itself_is_refused() -> None:
    graph = copy.deepcopy(GRAPH)
    graph["3"]["inputs"]["cfg"] = graph
    with pytest.raises(InvalidGraphError, match="nested more than 64 deep"):
        check(graph)


def test_a_list_of_two_numbers_is_no_link() -> None:
    check(changed("3", size=[512, 512]))


def test_a_pair_of_a_text_and_a_text_is_no_link() -> None:
    check(changed("3", words=["a", "b"]))


def test_titles_are_those_of_the_graph_or_the_classes() -> None:
    graph = check(GRAPH)
    assert [graph.title(node) for node in ("4", "3", "77")] == [
        "Load Checkpoint (node 4)",
        "KSampler (node 3)",
        "node 77",
    ]


def test_a_title_is_short_and_in_one_line_and_has_no_secret() -> None:
    title = titled("4", "two\nlines of api_key=abcdefgh and " + "x" * 100, "KSampler")
    assert "abcdefgh" not in title
    assert title.startswith("two lines of api_key=*** and xxx")
    assert len(title) < 80


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["9", "10"], "outputs names '10', and the nodes of the graph are 4, 5, 3, 9"),
        ([9], "outputs names 9"),
        ("9", 'outputs is "all" or a list of the ids of nodes, as ["9"], not \'9\''),
        ([], 'outputs is "all" or a list'),
        (None, "not None"),
    ],
)
def test_wanted_outputs_are_nodes_of_the_graph(outputs: Any, said: str) -> None:
    with pytest.raises(InvalidGraphError) as raised:
        check(GRAPH, outputs)
    assert said in str(raised.value)


def test_wanted_outputs_are_a_set() -> None:
    assert check(GRAPH).wanted is None
    assert check(GRAPH, ["9", "3", "9"]).wanted == ("3", "9")


def test_the_graph_that_is_sent_is_the_one_that_was_given() -> None:
    graph = copy.deepcopy(GRAPH)
    assert check(graph).nodes is graph
    assert graph == GRAPH


@pytest.mark.parametrize("cfg", [8, 8.0])
def test_a_whole_number_is_one_number(cfg: float) -> None:
    assert digest(check(changed("3", cfg=cfg))) == digest(check(GRAPH))


@pytest.mark.parametrize(
    "other", [changed("3", seed=8), changed("3", seed=True), changed("3", seed="7"), changed("3", cfg=8.5)]
)
def test_another_input_is_another_prompt(other: dict[str, Any]) -> None:
    assert digest(check(other)) != digest(check(GRAPH))


def test_true_is_not_one() -> None:
    assert digest(check(changed("3", seed=True))) != digest(check(changed("3", seed=1)))


def test_numbers_that_a_float_cannot_tell_apart_are_told_apart() -> None:
    assert digest(check(changed("3", seed=2**64 - 1))) != digest(check(changed("3", seed=2**64 - 2)))


def test_name_and_wanted_outputs_make_another_prompt() -> None:
    digests = {digest(check(GRAPH, outputs), name) for outputs in ("all", ["9"]) for name in (None, "a", "b")}
    assert len(digests) == 6


def test_the_digest_outlasts_a_release() -> None:
    """Results are remembered by it: another digest would run every prompt again."""
    assert digest(check(GRAPH)) == digest(check(json.loads(json.dumps(GRAPH))))
    assert check(GRAPH).canonical.startswith(b'{"3":{"class_type":"KSampler","inputs":{"cfg":8,"latent_image":["5",0],')
    assert digest(check(GRAPH)) == "ef3213ebcf4f1f1072bf63cc28f1b71c4dc67b70fc7df72b94c1b8d6f233d1b7"


def test_the_largest_graph_can_be_journalled() -> None:
    """A call whose arguments the journal does not take would be lost with the launcher."""
    graph = changed("4", ckpt_name="x" * (MOST_BYTES - 2000))
    assert len(check(graph).canonical) < MOST_BYTES < MAX_BYTES - 100 * 1024
    graph["4"]["_meta"]["title"] = "x" * 3000  # the journal keeps all of it, and not the inputs alone
    with pytest.raises(InvalidGraphError, match="more than the 900 that are kept"):
        check(graph)
