"""What is wrong with a prompt, from what the server says: an error of ours that names the nodes. Pure.

Older and newer servers say it differently, and packs of nodes say it as they like: what is not understood is a refusal
or a failure with the server's own words. Values of inputs are not shown, except names of files and of choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from adapters.comfyui.answers import ExecutionError
from adapters.comfyui.errors import (
    MemoryFullError,
    PaidAccountError,
    PaidLoginError,
    PoisonedContextError,
    PromptFailedError,
    PromptRefusedError,
    ServerBusyError,
)
from adapters.comfyui.graph import MOST_OF_A_TITLE, Graph, titled
from adapters.comfyui.missing import MOST_SHOWN, File, file_in, model_error, node_error
from events.evidence import Remedy
from recovery.redact import brief

MOST_SAID = 300
"""Characters of the server's own words that are shown."""

MOST_PROBLEMS = 8

MOST_EXPIRED = 2
"""Runs of a prompt after which a login that is missing is no longer taken for one that has expired."""

LOGIN_AFTER = 5.0
"""Seconds until a prompt is run again whose login has expired."""

MISSING_CLASS = re.compile(r"node (?P<kind>.{1,200}?) does not exist", re.DOTALL)
NODE_ID = re.compile(r"Node ID '#(?P<node>[^']{1,100})'")

FULL = (
    "out of memory",  # CUDA, HIP, XPU, MPS, and ComfyUI's own advice
    "allocation on device",
    "could not allocate tensor",  # DirectML
    "not enough gpu video memory",
    "not enough memory: you tried to allocate",  # the CPU
    "cannot allocate memory",
    "can't allocate memory",
    "unable to allocate",  # numpy
    "paging file is too small",
    "status_alloc_failed",  # cuBLAS, cuDNN
)
"""Parts of messages that say that the memory of the GPU, or of the machine, is full; in lower case."""

UNFIT = ("no kernel image", "invalid device", "status_not_supported", "status_arch_mismatch", "insufficient driver")
"""Parts of messages of CUDA that say that a program or an input does not fit the GPU: a restart changes nothing."""

POISONED = (
    "cuda error",
    "hip error",
    "cuda driver error",
    "device-side assert",
    "illegal memory access",
    "illegal instruction was encountered",
    "misaligned address",
    "unspecified launch failure",
    "cudnn error",
    "cudnn_status_",
    "cublas_status_",
    "cusolver_status_",
    "cufft_",
    "nccl error",
    "device removed",  # DirectML
    "device instance has been suspended",
)
"""Parts of messages after which each further call of the GPU fails until its process ends; in lower case."""

LOGIN = "please login first to use this node"
CREDITS = ("please add credits to your account", "there is a problem with your account")


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a prompt.

    Args:
        sentence: What, with the node.
        kind: The class that the server does not have; "" for another problem.
        file: The file that the server does not have; None for another problem.
    """

    sentence: str
    kind: str = ""
    file: File | None = None


def refused(status: int, body: object, graph: Graph) -> Exception:
    """The error for a prompt that the server did not take. Its message names each problem, in one line.

    A class that is missing goes before a file that is missing, which goes before what no person can bring.

    Args:
        status: The HTTP status.
        body: What the server answered, from JSON; a text if it is none.
        graph: The prompt.
    """
    if status in (408, 429, 502, 503, 504):
        return ServerBusyError(f"the server answers HTTP {status} for now")
    content = body if isinstance(body, Mapping) else {}
    problems = list(_of_nodes(content.get("node_errors"), graph))
    if first := _of_prompt(content.get("error"), graph, is_detailed=bool(problems)):
        problems.insert(0, first)
    if not problems:
        said = brief(body, MOST_SAID) if isinstance(body, str) else ""
        hint = ": the graph is larger than its --max-upload-size" if status == 413 else ""
        problems = [Problem(f"HTTP {status}{hint}{': ' if said else ''}{said}")]
    return _error("the server refuses the prompt", problems)


def partial(node_errors: object, graph: Graph) -> Exception:
    """The error for a prompt of which the server takes only a part: it answered 200, with *node_errors*."""
    problems = list(_of_nodes(node_errors, graph)) or [Problem("it does not say why")]
    return _error("the server takes only a part of the prompt", problems)


def failed(error: ExecutionError, graph: Graph, name: str, runs: int = 0) -> Exception:
    """The error for a prompt of which a node failed.

    Args:
        error: What the server says.
        graph: The prompt.
        name: The prompt's, for a question.
        runs: How many runs of it the server has concluded before: a login that is missing each time has not expired.
    """
    sentence = f"{_where(error.node_id, error.node_type, graph)} failed: {_said(error)}"
    said = f"{error.exception_type}: {error.exception_message}".lower()
    if LOGIN in said:
        if runs < MOST_EXPIRED:
            return PaidLoginError(sentence, after=LOGIN_AFTER)
        cure = "Log in to your ComfyUI account, or give its key in the extra data of the prompt, and answer yes"
        return PaidAccountError(sentence, remedy=Remedy(f"{cure}.", question=f"account:{name}"))
    if any(one in said for one in CREDITS):
        cure = "Add credits to your ComfyUI account, or see what is wrong with it. Then answer yes"
        return PaidAccountError(sentence, remedy=Remedy(f"{cure}.", question=f"account:{name}"))
    if error.exception_type.endswith("MemoryError") or any(one in said for one in FULL):
        return MemoryFullError(sentence)
    if any(one in said for one in UNFIT):
        return PromptFailedError(sentence)
    if error.exception_type.endswith("AcceleratorError") or any(one in said for one in POISONED):
        return PoisonedContextError(sentence)
    return PromptFailedError(sentence)


def _error(begins: str, problems: list[Problem]) -> Exception:
    more = f"; and {len(problems) - MOST_PROBLEMS} more problems" if len(problems) > MOST_PROBLEMS else ""
    ordered = sorted(problems, key=lambda one: (not one.kind, one.file is None))
    message = f"{begins}: {'; '.join(one.sentence for one in ordered[:MOST_PROBLEMS])}{more}"
    if kinds := [one.kind for one in ordered if one.kind]:
        return node_error(message, kinds)
    if files := [one.file for one in ordered if one.file]:
        return model_error(message, files)
    return PromptRefusedError(message)


def _of_prompt(error: object, graph: Graph, *, is_detailed: bool) -> Problem | None:
    """What is wrong with a prompt as a whole; None if the server says it of the nodes, or does not say it."""
    if isinstance(error, str) and error:
        return Problem(brief(error, MOST_SAID))
    if not isinstance(error, Mapping) or not error:
        return None
    kind, said, details = (_text(error.get(name)) for name in ("type", "message", "details"))
    if kind in ("invalid_prompt", "missing_node_type") and (missing := _missing_class(error, said, details, graph)):
        return missing
    if kind == "prompt_outputs_failed_validation" and is_detailed:
        return None
    if kind == "prompt_no_outputs":
        return Problem("it has no node that puts out a result: add one, as Save Image")
    words = ": ".join(part for part in (brief(said, MOST_SAID), brief(details, MOST_SAID)) if part)
    return Problem(words or brief(kind, MOST_SAID) or "it does not say why")


def _missing_class(error: Mapping[str, Any], said: str, details: str, graph: Graph) -> Problem | None:
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, Mapping) else {}
    found = NODE_ID.search(details)
    node = _text(extra.get("node_id")) or (found["node"] if found else "")
    named = MISSING_CLASS.search(said)
    kind = _text(extra.get("class_type")) or graph.class_of(node) or (named["kind"] if named else "")
    if not kind:
        return None
    what = f"{_where(node, kind, graph)} is of the class {brief(kind, MOST_SHOWN)}"
    return Problem(f"{what}, which the server does not have", kind=kind)


def _of_nodes(node_errors: object, graph: Graph) -> Iterator[Problem]:
    if not isinstance(node_errors, Mapping):
        return  # older servers give an empty list
    for node, said in node_errors.items():
        content = said if isinstance(said, Mapping) else {}
        kind = _text(content.get("class_type"))
        errors = content.get("errors")
        where = _where(_text(node), kind, graph)
        for error in errors if isinstance(errors, list) and errors else [None]:
            yield _of_node(error if isinstance(error, Mapping) else {}, where, _text(node), kind, graph)


def _of_node(error: Mapping[str, Any], where: str, node: str, kind: str, graph: Graph) -> Problem:
    what, said, details = (_text(error.get(name)) for name in ("type", "message", "details"))
    extra = error.get("extra_info")
    extra = extra if isinstance(extra, Mapping) else {}
    name = _text(extra.get("input_name"))
    if what in ("value_not_in_list", "custom_validation_failed"):
        for value in _values(extra, node, name, graph):
            options = _options(extra.get("input_config"))
            if value not in options and (file := file_in(kind or graph.class_of(node), name, value, options)):
                return _missing_file(where, file)
            if what == "value_not_in_list" and value not in options:
                shown = brief(f"{name}: {value}", MOST_SAID)
                return Problem(f"{where}: its {shown}, which is not in the server's list")
    says_the_value = what == "invalid_input_type"  # its details hold the value
    input_words = f"its {brief(name, MOST_OF_A_TITLE)}" if name else ""
    own = "" if says_the_value or details == name else brief(details, MOST_SAID)
    words = [part for part in (input_words, brief(said, MOST_SAID), own) if part]
    return Problem(": ".join([where, *(words or [brief(what, MOST_SAID) or "it does not say why"])]))


def _missing_file(where: str, file: File) -> Problem:
    name, alike = brief(file.name, MOST_SHOWN), brief(file.likeness, MOST_SHOWN)
    instead = f"; the server has {alike}" if alike else ""
    return Problem(f"{where} needs the file {name}, which is not in {file.where}{instead}", file=file)


def _values(extra: Mapping[str, Any], node: str, name: str, graph: Graph) -> list[object]:
    """What the graph has in the input *name*: the server says it, or the graph does. Several for a list."""
    value = extra.get("received_value")
    if value is None:
        inputs = graph.nodes.get(node, {}).get("inputs")
        value = inputs.get(name) if isinstance(inputs, Mapping) else None
    return list(value) if isinstance(value, list) else [value]


def _options(config: object) -> list[object]:
    """What an input takes, of ``[[...], {...}]`` or of ``["COMBO", {"options": [...]}]``; empty if there are many."""
    match config:
        case [list() as options, *_] | [_, {"options": list() as options}, *_]:
            return options
    return []


def _where(node: str, kind: str, graph: Graph) -> str:
    if node in graph.nodes:
        return graph.title(node)
    return titled(node, "", kind) if node else brief(kind, MOST_OF_A_TITLE) or "a node"


def _said(error: ExecutionError) -> str:
    """The class and the message, redacted, in one line, without the advice that ComfyUI adds."""
    said = brief(error.exception_message).partition("This error means you ran out of memory")[0].partition("TIPS:")[0]
    kind = brief(error.exception_type, MOST_OF_A_TITLE).rpartition(".")[2]
    return ": ".join(part for part in (kind, said.strip()[:MOST_SAID]) if part) or "it does not say why"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
