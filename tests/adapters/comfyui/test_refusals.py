"""What a server says of a prompt becomes one of our errors, which names the nodes. Bodies as servers answer them."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.errors import (
    MemoryFullError,
    MissingModelError,
    MissingNodeError,
    PaidAccountError,
    PaidLoginError,
    PoisonedContextError,
    PromptFailedError,
    PromptRefusedError,
    ServerBusyError,
)
from adapters.comfyui.graph import check
from adapters.comfyui.missing import pack_of
from adapters.comfyui.refusals import failed, partial, refused
from events.errors import NeedsPerson
from events.evidence import Remedy

GRAPH = check(
    {
        "4": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "sd_xl.safetensors"},
            "_meta": {"title": "Load Checkpoint"},
        },
        "3": {
            "class_type": "KSampler",
            "inputs": {"model": ["4", 0], "sampler_name": "eular", "api_key": "sk-12345678"},
        },
        "6": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
        "7": {"class_type": "ShowText|pysssss", "inputs": {"text": ["3", 0]}},
    }
)


def of_nodes(**node_errors: Any) -> dict[str, Any]:
    """A body of HTTP 400 for errors of nodes."""
    error = {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"}
    return {"error": {**error, "details": "", "extra_info": {}}, "node_errors": node_errors}


def node(kind: str, *errors: dict[str, Any]) -> dict[str, Any]:
    return {"errors": list(errors), "dependent_outputs": ["9"], "class_type": kind}


def said(
    what: str, name: str = "", value: Any = None, *, details: str = "", message: str = "", config: Any = None
) -> Any:
    info = {"input_name": name, "input_config": config, "received_value": value} if name else {}
    return {"type": what, "message": message or what, "details": details or name, "extra_info": info}


def not_in_list(name: str, value: str, *options: str, is_new: bool = False) -> Any:
    config = ["COMBO", {"options": [*options]}] if is_new else [[*options], {"tooltip": "a"}]
    details = f"{name}: '{value}' not in {list(options)}"
    return said("value_not_in_list", name, value, details=details, message="Value not in list", config=config)


def remedy_of(error: Exception) -> Remedy:
    assert isinstance(error, NeedsPerson)
    assert error.remedy is not None
    return error.remedy


OLD_CLASS = {
    "error": {
        "type": "invalid_prompt",
        "message": "Cannot execute because node ShowText|pysssss does not exist.",
        "details": "Node ID '#7'",
        "extra_info": {},
    },
    "node_errors": [],
}
NEW_CLASS = {
    "error": {
        "type": "missing_node_type",
        "message": "Node 'ShowText|pysssss' not found. The custom node may not be installed.",
        "details": "Node ID '#7'",
        "extra_info": {"node_id": "7", "class_type": "ShowText|pysssss", "node_title": "ShowText|pysssss"},
    },
    "node_errors": {},
}


@pytest.mark.parametrize("body", [OLD_CLASS, NEW_CLASS], ids=["old", "new"])
def test_a_class_that_is_missing_is_asked_for_with_its_pack(body: object) -> None:
    error = refused(400, body, GRAPH)
    assert type(error) is MissingNodeError
    assert "ShowText|pysssss (node 7) is of the class ShowText|pysssss, which the server does not have" in str(error)
    remedy = remedy_of(error)
    assert remedy.question == "node:ShowText|pysssss"
    assert remedy.sentence.startswith(
        "Install the pack ComfyUI-Custom-Scripts, which has ShowText|pysssss. Then answer yes: the server is restarted."
    )


def test_a_class_that_only_the_message_names_is_asked_for() -> None:
    body = {"error": {"type": "invalid_prompt", "message": "Cannot execute because node Own Node does not exist."}}
    assert remedy_of(refused(400, body, GRAPH)).question == "node:Own Node"


def test_a_node_without_a_class_is_refused() -> None:
    error = {"type": "missing_node_type", "message": "Node 'ID #12' has no class_type.", "details": "Node ID '#12'"}
    assert type(refused(400, {"error": error}, GRAPH)) is PromptRefusedError


@pytest.mark.parametrize(
    ("kind", "pack"),
    [
        ("VHS_VideoCombine", "ComfyUI-VideoHelperSuite"),
        ("Seed (rgthree)", "rgthree-comfy"),
        ("KSampler //Inspire", "ComfyUI-Inspire-Pack"),
        ("KSampler", ""),
        ("", ""),
    ],
)
def test_the_pack_of_a_class_is_told_by_its_mark(kind: str, pack: str) -> None:
    assert pack_of(kind) == pack


@pytest.mark.parametrize("is_new", [False, True])
def test_a_model_that_is_missing_is_asked_for_with_its_folder(is_new: bool) -> None:
    problem = not_in_list("ckpt_name", "sd_xl.safetensors", "sd15.safetensors", is_new=is_new)
    error = refused(400, of_nodes(**{"4": node("CheckpointLoaderSimple", problem)}), GRAPH)
    assert type(error) is MissingModelError
    assert str(error) == (
        "the server refuses the prompt: Load Checkpoint (node 4) needs the file sd_xl.safetensors, "
        "which is not in models/checkpoints"
    )
    remedy = remedy_of(error)
    assert remedy.question == "model:sd_xl.safetensors"
    assert remedy.sentence == "Put sd_xl.safetensors into models/checkpoints of ComfyUI. Then answer yes."


@pytest.mark.parametrize(
    ("kind", "name", "value", "options", "folder"),
    [
        ("LoraLoader", "lora_name", "a.safetensors", [], "models/loras"),
        ("DualCLIPLoader", "clip_name2", "t5.safetensors", [], "models/text_encoders"),
        ("CLIPVisionLoader", "clip_name", "v.safetensors", [], "models/clip_vision"),
        ("UpscaleModelLoader", "model_name", "4x.pth", [], "models/upscale_models"),
        ("VAELoader", "vae_name", "taesdxl", ["pixel_space"], "models/vae"),
        ("Stack", "loras.lora_name_1", "b.safetensors", [], "models/loras"),
        ("PackLoader", "own_model", "own.gguf", [], "its folder in models"),
        ("PackLoader", "own_model", "own", ["other.gguf"], "its folder in models"),
        ("LoadImage", "image", "cat.png", [], "input"),
    ],
)
def test_what_an_input_names_is_a_file_by_its_name_its_value_or_its_choices(
    kind: str, name: str, value: str, options: list[str], folder: str
) -> None:
    error = refused(400, of_nodes(**{"44": node(kind, not_in_list(name, value, *options))}), GRAPH)
    assert type(error) is MissingModelError
    assert f"{kind} (node 44) needs the file {value}, which is not in {folder}" in str(error)
    assert remedy_of(error).question == f"model:{value}"


def test_a_picture_that_is_missing_is_a_file_that_is_missing() -> None:
    problem = said("custom_validation_failed", "image", details="image - Invalid image file: cat.png")
    newer = {**problem, "extra_info": {"input_name": "image"}}  # newer servers do not say the value: the graph does
    for one in (problem, newer):
        error = refused(400, of_nodes(**{"6": node("LoadImage", one)}), GRAPH)
        assert "LoadImage (node 6) needs the file cat.png, which is not in input" in str(error)


def test_a_file_with_other_slashes_is_pointed_at() -> None:
    problem = not_in_list("ckpt_name", "xl\\sd_xl.safetensors", "xl/sd_xl.safetensors")
    error = refused(400, of_nodes(**{"4": node("CheckpointLoaderSimple", problem)}), GRAPH)
    assert str(error).endswith("which is not in models/checkpoints; the server has xl/sd_xl.safetensors")


def test_of_a_list_of_files_the_missing_one_is_named() -> None:
    problem = not_in_list("ckpt_name", "", "a.ckpt", "b.ckpt")
    problem["extra_info"]["received_value"] = ["a.ckpt", "c.ckpt"]
    error = refused(400, of_nodes(**{"4": node("Loader", problem)}), GRAPH)
    assert remedy_of(error).question == "model:c.ckpt"


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (not_in_list("sampler_name", "eular", "euler"), "its sampler_name: eular, which is not in the server's list"),
        (
            said("required_input_missing", "seed", message="Required input is missing"),
            "its seed: Required input is missing",
        ),
        (
            said("value_bigger_than_max", "cfg", 200, message="Value 200 bigger than max of 100"),
            "its cfg: Value 200 bigger",
        ),
        (said("bad_linked_input", "model", message="Bad linked input"), "its model: Bad linked input"),
        (said("return_type_mismatch", "model", details="model, VAE mismatch MODEL"), "model, VAE mismatch MODEL"),
        (said("exception_during_validation", details="'12'", message="Exception when validating node"), "node: '12'"),
        (said("dependency_cycle", details="3 (KSampler) -> 3 (KSampler)"), "dependency_cycle: 3 (KSampler) -> 3"),
    ],
)
def test_what_no_file_can_mend_is_refused_with_the_nodes_name(problem: dict[str, Any], words: str) -> None:
    error = refused(400, of_nodes(**{"3": node("KSampler", problem)}), GRAPH)
    assert type(error) is PromptRefusedError
    assert str(error).startswith("the server refuses the prompt: KSampler (node 3)")
    assert words in str(error)


def test_the_value_of_an_input_is_not_shown() -> None:
    problem = said("invalid_input_type", "text", "my private words", details="text, my private words, no number")
    error = refused(400, of_nodes(**{"3": node("KSampler", problem)}), GRAPH)
    assert "KSampler (node 3): its text: invalid_input_type" in str(error)
    assert "private" not in str(error)


def test_a_secret_among_choices_is_not_shown() -> None:
    problem = not_in_list("api_key", "abcdefghijkl", "none")
    error = refused(400, of_nodes(**{"3": node("KSampler", problem)}), GRAPH)
    assert str(error).endswith("KSampler (node 3): its api_key: ***, which is not in the server's list")


def test_several_problems_are_all_named_and_the_most_helpful_is_asked() -> None:
    body = of_nodes(
        **{
            "3": node(
                "KSampler", said("value_bigger_than_max", "cfg", 200, message="Value 200 bigger than max of 100")
            ),
            "6": node("LoadImage", said("custom_validation_failed", "image", details="image - Invalid image file")),
            "4": node("CheckpointLoaderSimple", not_in_list("ckpt_name", "sd_xl.safetensors")),
        }
    )
    error = refused(400, body, GRAPH)
    assert type(error) is MissingModelError
    assert [str(error).index(part) for part in ("(node 6)", "(node 4)", "(node 3)")] == sorted(
        str(error).index(part) for part in ("(node 6)", "(node 4)", "(node 3)")
    )
    assert remedy_of(error).question == "model:cat.png"
    assert remedy_of(error).sentence == (
        "Put cat.png into input, and sd_xl.safetensors into models/checkpoints of ComfyUI. Then answer yes."
    )


def test_of_many_problems_some_are_counted() -> None:
    problems = [said("required_input_missing", f"input_{number}", message="Missing") for number in range(30)]
    error = refused(400, of_nodes(**{"3": node("KSampler", *problems)}), GRAPH)
    assert str(error).endswith("; and 22 more problems")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            400,
            {"error": {"type": "prompt_no_outputs", "message": "Prompt has no outputs"}},
            "it has no node that puts out",
        ),
        (
            400,
            {"error": {"type": "invalid_prompt_id", "message": "prompt_id must be a valid UUID"}},
            "must be a valid UUID",
        ),
        (400, {"error": "no", "node_errors": []}, "the prompt: no"),
        (400, {"error": {"type": "odd"}}, "the prompt: odd"),
        (400, {}, "the prompt: HTTP 400"),
        (403, "Forbidden", "HTTP 403: Forbidden"),
        (413, None, "HTTP 413: the graph is larger than its --max-upload-size"),
        (500, "500: Internal Server Error", "HTTP 500: 500: Internal"),  # of a class that is missing, before 2024
    ],
)
def test_other_refusals_show_the_servers_words(status: int, body: object, words: str) -> None:
    error = refused(status, body, GRAPH)
    assert type(error) is PromptRefusedError
    assert words in str(error)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_proxy_without_a_server_is_busy(status: int) -> None:
    assert type(refused(status, "<html>", GRAPH)) is ServerBusyError


def test_a_part_that_the_server_drops_is_named() -> None:
    errors = of_nodes(**{"4": node("CheckpointLoaderSimple", not_in_list("ckpt_name", "sd_xl.safetensors"))})
    error = partial(errors["node_errors"], GRAPH)
    assert type(error) is MissingModelError
    assert str(error).startswith("the server takes only a part of the prompt: Load Checkpoint (node 4)")
    assert type(partial([], GRAPH)) is PromptRefusedError


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "torch.OutOfMemoryError",
            "Allocation on device \nThis error means you ran out of memory on your GPU.\n\nTIPS: a",
        ),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("torch.OutOfMemoryError", "HIP out of memory. Tried to allocate 2.00 GiB."),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 15.72 GiB, max allowed: 18.13 GiB)."),
        (
            "RuntimeError",
            "Could not allocate tensor with 4915840 bytes. There is not enough GPU video memory available!",
        ),
        ("torch.AcceleratorError", "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        ("numpy._core._exceptions._ArrayMemoryError", "Unable to allocate 9.00 GiB for an array"),
        ("MemoryError", ""),
        ("OSError", "The paging file is too small for this operation to complete. (os error 1455)"),
    ],
)
def test_a_full_memory_is_told_by_all_its_names(kind: str, message: str) -> None:
    error = failed(ExecutionError(kind, message, "3", "KSampler"), GRAPH, "cat")
    assert type(error) is MemoryFullError
    assert str(error).startswith(f"KSampler (node 3) failed: {kind.rpartition('.')[2]}")
    assert "TIPS" not in str(error)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RuntimeError", "CUDA error: device-side assert triggered"),
        ("torch.AcceleratorError", "CUDA error: an illegal memory access was encountered"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        ("RuntimeError", "HIP error: unspecified launch failure"),
        ("RuntimeError", "The GPU device instance has been suspended. Use GetDeviceRemovedReason"),
    ],
)
def test_a_broken_context_is_told(kind: str, message: str) -> None:
    assert type(failed(ExecutionError(kind, message, "3", "KSampler"), GRAPH, "cat")) is PoisonedContextError


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("ValueError", "Sizes of tensors must match except in dimension 1"),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)\n\n\nTIPS: If you have any"),
        ("FileNotFoundError", "[Errno 2] No such file or directory: 'a.safetensors'"),
        ("RuntimeError", "CUDA error: no kernel image is available for execution on the device"),
        ("RuntimeError", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
        ("SomethingOdd", "\x00\n"),
        ("", ""),
    ],
)
def test_another_failure_is_for_good(kind: str, message: str) -> None:
    error = failed(ExecutionError(kind, message, "3", "KSampler"), GRAPH, "cat")
    assert type(error) is PromptFailedError
    assert str(error).startswith("KSampler (node 3) failed: ")
    assert "TIPS" not in str(error)


def test_a_node_that_the_server_made_itself_is_named_by_its_class() -> None:
    error = failed(ExecutionError("ValueError", "no", "3.0.0.1", "Loop"), GRAPH, "cat")
    assert str(error) == "Loop (node 3.0.0.1) failed: ValueError: no"
    assert str(failed(ExecutionError("ValueError", "no"), GRAPH, "cat")) == "a node failed: ValueError: no"


def test_a_login_that_expired_is_run_again_a_few_times() -> None:
    said = ExecutionError("Exception", "Unauthorized: Please login first to use this node.\n", "3", "KSampler")
    errors = [failed(said, GRAPH, "cat", runs) for runs in range(4)]
    assert [type(error) for error in errors] == [PaidLoginError, PaidLoginError, PaidAccountError, PaidAccountError]
    assert isinstance(errors[0], PaidLoginError)
    assert errors[0].after == 5.0
    assert remedy_of(errors[2]).question == "account:cat"


def test_credits_that_are_used_up_are_asked_for() -> None:
    said = ExecutionError("Exception", "Payment Required: Please add credits to your account to use this node.", "3")
    assert type(failed(said, GRAPH, "cat")) is PaidAccountError


def test_the_words_of_a_node_are_redacted_before_they_are_cut() -> None:
    said = ExecutionError("ValueError", "x" * 285 + " api_key=abcdefghijklmnop", "3", "KSampler")
    assert "abc" not in str(failed(said, GRAPH, "cat"))
    assert len(str(failed(said, GRAPH, "cat"))) < 400
