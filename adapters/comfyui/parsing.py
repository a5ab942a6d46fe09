"""What the JSON of a ComfyUI server means. Pure.

Missing and extra fields are taken. An answer of another kind, as the page of a gateway, raises UnreadableError: it must
not pass for "the server does not know the prompt". ``current_inputs``, graphs and ``extra_data`` may hold keys, and
never leave this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec

from adapters.comfyui.answers import ABSENT, ExecutionError, Finished, Standing

JOB_STATES = {"completed", "failed", "cancelled"}
"""Those of a job that has ended. One without a word on its end counts as completed in the server, and not here."""

MAX_INT = 2**63
MAX_DEPTH = 100


class UnreadableError(ValueError):
    """An answer that is not of ComfyUI. The message holds nothing of it."""


class Stats(msgspec.Struct, frozen=True):
    """What a server says of itself.

    Args:
        argv: Its command line, without the interpreter.
        version: Of ComfyUI; "" if it does not say it.
    """

    argv: tuple[str, ...]
    version: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """A prompt that a server has taken.

    Args:
        prompt_id: Under which the server knows it. Servers before July 2025 give one of their own.
        number: Its place in the order of the server.
        node_errors: The nodes that will not run, by their ids; empty if all will.
    """

    prompt_id: str
    number: float
    node_errors: dict[str, Any] = {}


class Queue(msgspec.Struct, frozen=True):
    """The ids of the prompts in a server that have not ended, in the order in which they run."""

    running: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


def stats(answer: Any) -> Stats:
    """Read ``/system_stats``."""
    system = _part(answer, "system", dict)
    argv = system.get("argv")
    return Stats(tuple(map(str, argv if isinstance(argv, list) else ())), str(system.get("comfyui_version") or ""))


def accepted(answer: Any) -> Accepted:
    """Read the answer 200 to ``POST /prompt``."""
    number, errors = _part(answer, "number", int, float), answer.get("node_errors")
    return Accepted(_part(answer, "prompt_id", str), number, plain(errors) if isinstance(errors, dict) else {})


def queue(answer: Any) -> Queue:
    """Read ``/queue``. What waits is a heap there: it is sorted here."""
    running = (_id_of(one) for one in _items(answer, "queue_running"))
    pending = sorted((_number_of(one), _id_of(one)) for one in _items(answer, "queue_pending"))
    return Queue(tuple(running), tuple(prompt_id for _, prompt_id in pending))


def standing_in_queue(answer: Any, prompt_id: str) -> Standing | None:
    """Read ``/queue``: where *prompt_id* stands; None if it is not there."""
    for one in _items(answer, "queue_running"):
        if _id_of(one) == prompt_id:
            return Standing("running", _number_of(one))
    for one in _items(answer, "queue_pending"):
        if _id_of(one) == prompt_id:
            return Standing("pending", _number_of(one))
    return None


def standing_in_history(answer: Any, prompt_id: str) -> Standing:
    """Read ``/history/{prompt_id}``."""
    if not isinstance(answer, dict):
        raise UnreadableError("no object")
    if prompt_id not in answer:
        return ABSENT
    entry = _part(answer, prompt_id, dict)
    prompt = entry.get("prompt")
    number = prompt[0] if isinstance(prompt, list) and prompt and _is_number(prompt[0]) else None
    return Standing("finished", number, _finished(entry.get("outputs"), entry.get("status")))


def has_jobs(answer: Any) -> bool:
    """Whether this answer 400 to ``/api/jobs`` with a state that no job has is of the jobs API, in its very words."""
    return isinstance(answer, dict) and str(answer.get("error")).startswith("Invalid status")


def queue_of_jobs(answer: Any) -> Queue | None:
    """Read ``/api/jobs?status=in_progress,pending``, which has no graphs; None if it does not list all."""
    jobs = [
        (_state_of(one), _number_of([one.get("priority")]), _part(one, "id", str)) for one in _items(answer, "jobs")
    ]
    pages = answer.get("pagination")
    if not isinstance(pages, dict) or pages.get("has_more") is not False:
        return None
    running, pending = ([job[1:] for job in sorted(jobs) if job[0] == state] for state in ("in_progress", "pending"))
    return Queue(tuple(one for _, one in running), tuple(one for _, one in pending))


def is_unknown_job(answer: Any) -> bool:
    """Whether this answer 404 to ``/api/jobs/{id}`` is that of the jobs API to an unknown id, in its very words.

    A gateway's 404 must not pass for it. Where the words are others, the queue and the history say the same.
    """
    return isinstance(answer, dict) and answer.get("error") == "Job not found"


def standing_of_job(answer: Any) -> Standing:
    """Read the answer 200 to ``/api/jobs/{id}``."""
    state, number = _state_of(answer), answer.get("priority")
    number = number if _is_number(number) else None
    match state:
        case "pending":
            return Standing("pending", number)
        case "in_progress":
            return Standing("running", number)
        case _ if state in JOB_STATES:
            outputs = _with_plain_names(answer.get("outputs"))
            return Standing("finished", number, _finished(outputs, answer.get("execution_status")))
    raise UnreadableError(f"a job is {state!r}")


def execution_error(data: Any) -> ExecutionError:
    """Read the data of an ``execution_error``: without the inputs, the outputs and the traceback."""
    data = data if isinstance(data, dict) else {}
    return ExecutionError(
        *(
            plain(str(data.get(key) if data.get(key) is not None else ""))
            for key in ("exception_type", "exception_message", "node_id", "node_type")
        )
    )


def plain(value: Any, depth: int = 0) -> Any:
    """*value* as a journal can keep it: no NaN, no half of a character, no integer beyond 64 bits, no endless depth."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case float() if math.isnan(value) or math.isinf(value):
            return None
        case int() if not -MAX_INT <= value < MAX_INT:
            return str(value) if abs(value) < MAX_INT**4 else None
        case dict() | list() if depth >= MAX_DEPTH:
            return None
        case dict():
            return {plain(key): plain(one, depth + 1) for key, one in value.items()}
        case list():
            return [plain(one, depth + 1) for one in value]
    return value


def _finished(outputs: Any, status: Any) -> Finished:
    """How a run ended. ``status_str`` alone may lie: a graph with a cycle fails, and counts as a success."""
    outputs = plain(outputs) if isinstance(outputs, dict) else {}
    if not isinstance(status, dict):
        return Finished(
            succeeded=False, error=ExecutionError("", "the server does not say how it ended"), outputs=outputs
        )
    said = dict(_messages(status))
    error = execution_error(said["execution_error"]) if "execution_error" in said else None
    interrupted = error is None and "execution_interrupted" in said
    succeeded = status.get("status_str") == "success" and error is None and not interrupted
    return Finished(succeeded, interrupted, error, outputs)


def _messages(status: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    messages = status.get("messages")
    for one in messages if isinstance(messages, list) else ():
        if isinstance(one, list) and len(one) >= 2 and isinstance(one[0], str):
            yield one[0], one[1]


def _with_plain_names(outputs: Any) -> Any:
    """The outputs of a job as the history has them.

    The jobs API makes a file of each text that ends as the name of a 3D model does. It may be no file of this prompt,
    and ``/view`` would not find it.
    """
    if not isinstance(outputs, dict):
        return outputs
    return {
        node: {
            kind: [_plain_name(one) for one in listed] if isinstance(listed, list) else listed
            for kind, listed in output.items()
        }
        if isinstance(output, dict)
        else output
        for node, output in outputs.items()
    }


def _plain_name(item: Any) -> Any:
    match item:
        case {"filename": name, "type": "output", "subfolder": "", "mediaType": "3d"} if len(item) == 4:
            return name
    return item


def _items(answer: Any, name: str) -> list[Any]:
    items: list[Any] = _part(answer, name, list)
    return items


def _state_of(job: Any) -> str:
    return str(_part(job, "status", str))


def _id_of(item: Any) -> str:
    if not isinstance(item, list) or len(item) < 2 or not isinstance(item[1], str):
        raise UnreadableError("an entry of the queue has no prompt id")
    return item[1]


def _number_of(item: list[Any]) -> float:
    return item[0] if _is_number(item[0]) else 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _part(answer: Any, name: str, *kinds: type) -> Any:
    """The field *name* of an answer, which must be there. The error holds nothing of the answer."""
    if not isinstance(answer, dict) or not isinstance(answer.get(name), kinds):
        raise UnreadableError(f"it has no {name}")
    return answer[name]
