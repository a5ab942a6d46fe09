"""The words for what the stand-in refuses, in both dialects, and what a person reads about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.errors import MissingModelError, MissingNodeError, PromptRefusedError
from adapters.comfyui.graph import check
from adapters.comfyui.paid import paid_nodes
from adapters.comfyui.refusals import failed, partial, refused
from events import GaveUp
from recovery import Recovery
from recovery.explain import Explanation, explain
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.standin.nodes import CLASSES, Folders, describe
from tests.adapters.comfyui.standin.validation import validate


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(*(tmp_path / name for name in ("output", "temp", "input", "models")))


@pytest.mark.parametrize("is_new", [False, True], ids=["old", "new"])
@pytest.mark.parametrize(
    ("graph", "kind", "words"),
    [
        (graphs.unknown_class(), MissingNodeError, "is of the class AbsentNode, which the server does not have"),
        (
            graphs.checkpoint("gone.safetensors"),
            MissingModelError,
            "the file gone.safetensors, which is not in models/ch",
        ),
        (graphs.upscaled("4x.pth"), MissingModelError, "the file 4x.pth, which is not in models/upscale_models"),
        (graphs.without_outputs(), PromptRefusedError, "it has no node that puts out a result"),
        (graphs.without_input(), PromptRefusedError, "Required input is missing"),
        (graphs.too_big(), PromptRefusedError, "bigger than max"),
    ],
)
def test_what_a_server_refuses_is_told_in_both_dialects(
    graph: dict[str, Any], kind: type, words: str, is_new: bool, folders: Folders
) -> None:
    verdict = validate(graph, folders, is_new)
    assert verdict.error is not None
    error = refused(400, {"error": verdict.error, "node_errors": verdict.node_errors}, check(graph))
    assert type(error) is kind
    assert words in str(error)


def test_a_part_that_a_server_drops_is_told(folders: Folders) -> None:
    graph = graphs.partial()
    verdict = validate(graph, folders, is_new=True)
    assert verdict.error is None
    assert "the server takes only a part of the prompt: " in str(partial(verdict.node_errors, check(graph)))


@pytest.mark.parametrize("is_new", [False, True], ids=["old", "new"])
def test_paid_nodes_are_found_in_both_dialects(is_new: bool, folders: Folders) -> None:
    info = {name: describe(name, folders, is_new) for name in CLASSES}
    assert len(paid_nodes(check(graphs.paid()), info)) == 1
    assert paid_nodes(check(graphs.picture()), info) == ()


def explained(error: Exception) -> Explanation:
    service, found = Recovery(enable_logging=False), []
    service.bus.subscribe(GaveUp, lambda gave_up: found.append(explain(gave_up)))

    @service.recoverable("prompt", max_retries=0)
    def prompt() -> None:
        raise error

    with pytest.raises(type(error)):
        prompt()
    return found[0]


def test_a_person_reads_the_node_the_file_and_the_class(folders: Folders) -> None:
    graph = graphs.checkpoint("gone.safetensors")
    verdict = validate(graph, folders, is_new=True)
    shown = explained(refused(400, {"error": verdict.error, "node_errors": verdict.node_errors}, check(graph)))
    assert shown.sentence == "a file that the prompt needs is not on the server: gone.safetensors"
    assert shown.asked == "Put gone.safetensors into models/checkpoints of ComfyUI. Then answer yes."
    absent = validate(graphs.unknown_class(), folders, is_new=True)
    shown = explained(refused(400, {"error": absent.error}, check(graphs.unknown_class())))
    assert shown.sentence == "a kind of node that the prompt needs is not on the server: AbsentNode"


@pytest.mark.parametrize(
    ("kind", "message", "sentence"),
    [
        ("ValueError", "odd", "a node of the prompt failed: My sampler (node 3)"),
        ("torch.OutOfMemoryError", "Allocation on device", "the memory is full: My sampler (node 3) needs more"),
        (
            "RuntimeError",
            "CUDA error: device-side assert triggered",
            "the server can no longer use the graphics card, since My sampler (node 3) failed",
        ),
    ],
)
def test_a_person_reads_which_node_failed(kind: str, message: str, sentence: str) -> None:
    graph = check({"3": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "My sampler"}}})
    assert explained(failed(ExecutionError(kind, message, "3", "KSampler"), graph, "cat")).sentence == sentence
