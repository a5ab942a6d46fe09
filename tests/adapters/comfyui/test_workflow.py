"""Workflow files: which format they have, and which nodes and models a drawn one needs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.comfyui.errors import InvalidGraphError
from adapters.comfyui.workflow import MOST_BYTES, Model, NodeClass, Workflow, missing, read_workflow

BASE = "sd_xl_base.safetensors"
LOADER = {"id": 1, "type": "CheckpointLoaderSimple", "mode": 0, "widgets_values": [BASE]}
GRAPH = {"3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}


def read(found: Any) -> Workflow:
    return read_workflow(msgspec.json.encode(found))


def drawn(*nodes: Any, **more: Any) -> Workflow:
    return read({"version": 0.4, "nodes": nodes, "links": []} | more)


def node(name: str, /, *values: Any, **more: Any) -> dict[str, Any]:
    return {"id": 7, "type": name, "widgets_values": list(values)} | more


def info(**classes: Any) -> dict[str, Any]:
    return {name: {"input": {"required": inputs}} for name, inputs in classes.items()}


def names(found: Workflow) -> list[str]:
    return [one.name for one in found.nodes]


def test_a_graph_of_the_api_format_is_read_as_it_is() -> None:
    assert read(GRAPH) == Workflow("api", graph=GRAPH)


@pytest.mark.parametrize("version", [0.4, 1, 1.0, "new", None])
def test_a_drawn_workflow_of_any_version_names_its_nodes_and_models(version: object) -> None:
    found = drawn(LOADER, node("KSampler", 5, "euler"), version=version)
    assert found == Workflow(
        "ui",
        nodes=(NodeClass("CheckpointLoaderSimple"), NodeClass("KSampler")),
        models=(Model(BASE, node="CheckpointLoaderSimple"),),
    )


@pytest.mark.parametrize(
    ("properties", "pack"),
    [
        ({"cnr_id": "comfyui-kjnodes", "aux_id": "kijai/ComfyUI-KJNodes"}, "comfyui-kjnodes"),
        ({"aux_id": "kijai/ComfyUI-KJNodes"}, "kijai/ComfyUI-KJNodes"),
        ({"cnr_id": 5}, ""),
        (None, ""),
    ],
)
def test_a_node_says_of_which_pack_it_is(properties: Any, pack: str) -> None:
    assert drawn(node("A"), node("A", properties=properties)).nodes == (NodeClass("A", pack),)


def test_a_model_has_the_folder_and_the_url_that_its_node_or_the_workflow_says() -> None:
    url = "https://example.org/a.safetensors"
    said = {"name": "a.safetensors", "directory": "checkpoints", "url": url}
    expected = (Model("a.safetensors", "checkpoints", url, "Loader"),)
    assert drawn(node("Loader", "a.safetensors", properties={"models": [said]})).models == expected
    assert drawn(node("Loader", "a.safetensors"), models=[said, {"name": "unused.ckpt"}]).models == expected


def test_what_is_muted_or_bypassed_or_drawn_alone_is_not_needed() -> None:
    inside = {"id": "sub", "nodes": [node("Inner", "inner.gguf")]}
    found = drawn(
        node("A", "a.pt", mode=2),
        node("B", "b.pt", mode=4),
        node("Note", "see model.ckpt for it, or none at all"),
        node("Reroute"),
        node("sub", mode=4),
        definitions={"subgraphs": [inside]},
    )
    assert (found.nodes, found.models) == ((), ())


def test_the_nodes_of_subgraphs_count_also_of_nested_ones_and_of_ones_in_a_circle() -> None:
    outer = {"id": "outer", "nodes": [node("Inner"), node("deep", "promoted.gguf"), node("outer")]}
    deep = {"id": "deep", "nodes": [node("Deepest", "deep.gguf"), node("outer")]}
    found = drawn(
        node("outer"), node("Last"), definitions={"subgraphs": [outer, deep, {"id": "unused", "nodes": [LOADER]}]}
    )
    assert set(names(found)) == {"Last", "Inner", "Deepest"}
    assert {model.name for model in found.models} == {"promoted.gguf", "deep.gguf"}


@pytest.mark.parametrize("separator", ["/", ">"])
def test_the_nodes_of_groups_of_older_browsers_count(separator: str) -> None:
    found = drawn(node(f"workflow{separator}mine"), extra={"groupNodes": {"mine": {"nodes": [node("Inner")]}}})
    assert names(found) == ["Inner"]


def test_models_are_found_in_widgets_of_any_shape_but_not_in_a_switch_that_is_off() -> None:
    values = {"a": "One.SafeTensors", "b": [{"on": True, "lora": "sub/two.pt"}, {"on": False, "lora": "three.pt"}]}
    found = drawn({"type": "Power", "widgets_values": values})
    assert {model.name for model in found.models} == {"One.SafeTensors", "sub/two.pt"}


CHECKPOINTS = {"ckpt_name": [["here.safetensors", "XL\\there.safetensors"], {}]}


@pytest.mark.parametrize("choice", [[["here.pt"], {}], ["COMBO", {"options": ["here.pt"]}], [[], {}]])
def test_what_the_server_has_not_is_missing(choice: Any) -> None:
    found = drawn(node("Loader", "gone.pt"), node("Gone", "gone.bin"), node("Loader", "here.pt"))
    lacks = missing(found, info(Loader={"name": choice}, Other={"name": [["here.pt"]]}))
    assert [one.name for one in lacks.nodes] == ["Gone"]
    assert [(one.name, one.node) for one in lacks.models] == [("gone.pt", "Loader"), ("gone.bin", "Gone")]


def test_a_model_is_there_however_its_folder_is_separated() -> None:
    for there in ("XL/there.safetensors", "XL\\there.safetensors"):
        found = drawn(node("Loader", there), node("Loader", "here.safetensors"))
        assert missing(found, info(Loader=CHECKPOINTS)).models == ()


def test_a_text_that_ends_like_a_model_is_none_unless_the_workflow_says_so() -> None:
    written = info(Save={"name": ["STRING", {}], "kind": [["fast", "slow"], {}]})
    assert missing(drawn(node("Save", "out.bin")), written).models == ()
    said = node("Save", "out.bin", properties={"models": [{"name": "out.bin", "url": "https://example.org/out.bin"}]})
    assert len(missing(drawn(said), written).models) == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is not JSON"),
        (b"\x89PNG\r\n", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"[]", "it is not a workflow: its JSON is a list"),
        (b"null", "it is not a workflow: its JSON is null"),
        (b"5", "it is not a workflow: its JSON is a number"),
        (b"{}", "it is not a workflow: it has no nodes"),
        (b'{"nodes": {"1": {}}}', "it is not a workflow: it has no nodes"),
        (b'{"3": {"inputs": {}}}', "it is not a workflow: it has no nodes"),
        (b'{"prompt": {}, "client_id": "a"}', "keep what is under 'prompt' alone"),
        (b" " * (MOST_BYTES + 1), "it is larger than 32 MiB"),
    ],
)
def test_what_is_no_workflow_is_refused_with_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(InvalidGraphError, match=said) as refused:
        read_workflow(data)
    assert "\n" not in str(refused.value)


KEYS = st.sampled_from(
    ["type", "id", "nodes", "widgets_values", "properties", "models", "name", "mode", "definitions", "subgraphs",
     "extra", "groupNodes", "input", "on"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["Loader", "sub", "a.pt", "Note"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)

SUBGRAPHS = st.lists(st.fixed_dictionaries({"id": JSON, "nodes": JSON}), max_size=2)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "definitions": JSON | st.fixed_dictionaries({"subgraphs": SUBGRAPHS}),
        "extra": JSON | st.fixed_dictionaries({"groupNodes": st.dictionaries(st.just("a"), JSON)}),
        "models": JSON,
    },
)


@given(
    nodes=st.lists(JSON, max_size=5),
    more=MORE,
    server=st.dictionaries(st.sampled_from(["Loader", "sub"]), JSON),
)
def test_a_drawn_workflow_of_any_content_is_read(nodes: list[Any], more: dict[str, Any], server: Any) -> None:
    found = read({**more, "nodes": nodes})
    lacks = missing(found, server)
    assert set(lacks.nodes) <= set(found.nodes)
    assert set(lacks.models) <= set(found.models)
    assert not {one.name for one in lacks.nodes} & server.keys()


@given(data=st.binary(max_size=40) | JSON.map(msgspec.json.encode))
def test_any_bytes_are_a_workflow_or_refused_in_one_line(data: bytes) -> None:
    try:
        said = read_workflow(data).format
    except InvalidGraphError as error:
        said = str(error)
    assert said.isprintable()
