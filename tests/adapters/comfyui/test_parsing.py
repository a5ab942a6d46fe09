"""What the JSON of a ComfyUI server means: answers of a real one, and others that must not pass for these."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from adapters.comfyui import parsing
from adapters.comfyui.answers import ABSENT, ExecutionError, Finished, Standing, files_in
from adapters.comfyui.http import json_of
from adapters.comfyui.parsing import Queue, Stats, UnreadableError

ONE, TWO, TEN = (f"00000000-0000-5000-8000-0000000000{number}" for number in ("01", "02", "10"))
KEY = "sk-secret"
GRAPH = {"1": {"class_type": "Paid", "inputs": {"api_key": KEY}}}
FILE = {"filename": "a_00001_.png", "subfolder": "", "type": "output"}
OUTPUTS = {"3": {"images": [FILE], "animated": [False]}}
STARTED = ["execution_start", {"prompt_id": ONE, "timestamp": 1}]
WENT = ["execution_success", {"prompt_id": ONE, "timestamp": 3}]
BROKE = [
    "execution_error",
    {
        "prompt_id": ONE,
        "node_id": "1",
        "node_type": "Paid",
        "executed": [],
        "exception_message": "no credit\n",
        "exception_type": "RuntimeError",
        "traceback": ["  File ..."],
        "current_inputs": {"api_key": [KEY]},
        "current_outputs": ["1"],
        "timestamp": 3,
    },
]
STOPPED = ["execution_interrupted", {"prompt_id": ONE, "node_id": "1", "node_type": "Paid", "executed": []}]
ERROR = ExecutionError("RuntimeError", "no credit\n", "1", "Paid")


def queued(number: float, prompt_id: str) -> list[Any]:
    return [number, prompt_id, GRAPH, {"client_id": "c", "api_key_comfy_org": KEY}, ["3"]]


def ended(word: str, *messages: list[Any], outputs: Any = OUTPUTS) -> dict[str, Any]:
    status = {"status_str": word, "completed": word == "success", "messages": [STARTED, *messages]}
    return {"prompt": queued(4, ONE), "outputs": outputs, "status": status, "meta": {}}


def from_history(entry: dict[str, Any]) -> Standing:
    return parsing.standing_in_history({ONE: entry}, ONE)


def from_job(entry: dict[str, Any], status: str = "completed") -> Standing:
    """The job of an entry of the history, as the jobs API makes it."""
    outputs = {
        node: {kind: [as_job(one) for one in listed] for kind, listed in output.items()}
        for node, output in entry["outputs"].items()
    }
    job = {"id": ONE, "status": status, "priority": entry["prompt"][0], "outputs_count": 1, "outputs": outputs}
    job |= {"execution_status": entry["status"], "workflow": {"prompt": GRAPH, "extra_data": {}}}
    return parsing.standing_of_job(job | {"execution_error": BROKE[1], "preview_output": FILE | {"nodeId": "3"}})


def as_job(item: Any) -> Any:
    is_model = isinstance(item, str) and item.endswith(".glb")
    return {"filename": item, "type": "output", "subfolder": "", "mediaType": "3d"} if is_model else item


ENDS = {
    "success": (ended("success", WENT), Finished(True, outputs=OUTPUTS)),
    "error": (ended("error", BROKE), Finished(False, error=ERROR, outputs=OUTPUTS)),
    "interrupted": (ended("error", STOPPED), Finished(False, interrupted=True, outputs=OUTPUTS)),
    "a cycle": (ended("success", BROKE), Finished(False, error=ERROR, outputs=OUTPUTS)),
}


@pytest.mark.parametrize("name", ENDS)
def test_both_dialects_say_the_same_of_an_end(name: str) -> None:
    entry, finished = ENDS[name]
    assert from_history(entry) == from_job(entry, "failed") == Standing("finished", 4, finished)


@pytest.mark.parametrize("name", ENDS)
def test_no_inputs_and_no_graph_leave_an_answer(name: str) -> None:
    said = msgspec.json.encode([from_history(ENDS[name][0]), from_job(ENDS[name][0])]).decode()
    assert KEY not in said
    assert "traceback" not in said


@pytest.mark.parametrize("status", [None, {}, {"status_str": None}, {"status_str": "running"}, "success", []])
def test_an_end_of_which_nothing_is_said_is_no_success(status: Any) -> None:
    entry = ended("success") | {"status": status}
    for standing in (from_history(entry), from_job(entry, "completed")):
        assert standing.finished is not None
        assert not standing.finished.succeeded


def test_a_text_that_looks_like_a_model_is_no_file_of_the_prompt() -> None:
    text = {"7": {"result": ["3d/mesh.glb", None], "text": ["hello"]}}
    entry = ended("success", WENT, outputs=text)
    assert from_job(entry) == from_history(entry)
    finished = from_job(entry).finished
    assert finished is not None
    assert not list(files_in(finished.outputs["7"]))


def test_a_job_that_has_not_ended() -> None:
    assert parsing.standing_of_job({"id": ONE, "status": "pending", "priority": 0}) == Standing("pending", 0)
    assert parsing.standing_of_job({"id": ONE, "status": "in_progress"}) == Standing("running")


def test_the_queue_says_where_a_prompt_stands() -> None:
    answer = {"queue_running": [queued(0, ONE)], "queue_pending": [queued(1, TWO)]}
    assert parsing.standing_in_queue(answer, ONE) == Standing("running", 0)
    assert parsing.standing_in_queue(answer, TWO) == Standing("pending", 1)
    assert parsing.standing_in_queue(answer, TEN) is None
    assert parsing.standing_in_history({}, ONE) == ABSENT


def test_what_waits_is_in_the_order_in_which_it_runs() -> None:
    heap = [queued(-3, TWO), queued(10, TEN), queued(9, ONE)]
    answer = {"queue_running": [], "queue_pending": heap, "more": 1}
    assert parsing.queue(answer) == Queue((), (TWO, ONE, TEN))


@pytest.mark.parametrize(
    "answer", [None, [], "", "<html>", 3, {}, {"detail": "Not Found"}, {ONE: None}, {"queue_running": []}]
)
@pytest.mark.parametrize(
    "parse",
    [
        lambda answer: parsing.standing_in_queue(answer, ONE),
        parsing.queue,
        parsing.standing_of_job,
        parsing.accepted,
        parsing.stats,
    ],
)
def test_what_comes_from_elsewhere_says_nothing_of_a_prompt(parse: Callable[[Any], Any], answer: Any) -> None:
    with pytest.raises(UnreadableError):
        parse(answer)


@pytest.mark.parametrize("answer", [None, [], "", 3, {ONE: None}, {ONE: []}])
def test_what_is_no_history_does_not_say_that_a_prompt_is_absent(answer: Any) -> None:
    with pytest.raises(UnreadableError):
        parsing.standing_in_history(answer, ONE)


@pytest.mark.parametrize("item", [None, [], [1], [1, 2], {"id": ONE}])
def test_an_entry_of_the_queue_without_an_id_is_not_passed_over(item: Any) -> None:
    with pytest.raises(UnreadableError):
        parsing.standing_in_queue({"queue_running": [], "queue_pending": [item]}, ONE)


def test_an_unknown_job_is_told_from_an_unknown_path() -> None:
    assert parsing.is_unknown_job({"error": "Job not found"})
    for other in (None, "404: Not Found", {}, [], {"detail": "Not Found"}, {"error": "Not found"}):
        assert not parsing.is_unknown_job(other)
    assert parsing.has_jobs({"error": "Invalid status value(s): none. Valid values: pending, in_progress"})
    for other in (None, "<html>", {}, {"jobs": []}, {"error": None}, {"error": "Bad request"}, []):
        assert not parsing.has_jobs(other)


def test_jobs_are_listed_in_their_order_or_not_at_all() -> None:
    jobs = [{"id": str(one), "status": "pending", "priority": one} for one in (11, 2, 0.5)]
    jobs.append({"id": ONE, "status": "in_progress"})
    pages = {"has_more": False}
    assert parsing.queue_of_jobs({"jobs": jobs, "pagination": pages}) == Queue((ONE,), ("0.5", "2", "11"))
    assert parsing.queue_of_jobs({"jobs": [], "pagination": pages}) == Queue()
    for other in (None, {}, {"has_more": True}, {"has_more": None}):
        assert parsing.queue_of_jobs({"jobs": [], "pagination": other}) is None
    for wrong in (None, {}, {"jobs": 3}, {"jobs": [None]}, {"jobs": [{"id": ONE}]}, {"jobs": [{"status": "pending"}]}):
        with pytest.raises(UnreadableError):
            parsing.queue_of_jobs(wrong)


def test_a_server_says_what_it_is() -> None:
    answer = {"system": {"comfyui_version": "0.3.64", "argv": ["main.py", "--port", "8188"], "os": "nt"}, "devices": []}
    assert parsing.stats(answer) == Stats(("main.py", "--port", "8188"), "0.3.64")
    assert parsing.stats({"system": {}}) == Stats(())


def test_an_accepted_prompt_may_have_nodes_that_will_not_run() -> None:
    errors = {"4": {"errors": [], "dependent_outputs": ["4"], "class_type": "SaveImage"}}
    assert parsing.accepted({"prompt_id": ONE, "number": 0, "node_errors": errors}).node_errors == errors
    assert parsing.accepted({"prompt_id": ONE, "number": 2.5, "node_errors": []}).node_errors == {}


def test_nan_in_a_graph_hides_no_prompt() -> None:
    text = json.dumps({ONE: ended("success", WENT) | {"prompt": [0, ONE, {"1": {"is_changed": [float("nan")]}}]}})
    assert "NaN" in text
    assert parsing.standing_in_history(json_of(text), ONE).state == "finished"


def test_outputs_can_be_journalled() -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    outputs = {"3": {"text": ["\ud800", float("inf"), 2**70, -(2**70), 10**5000, deep], "kept": [1, 2.5, True, None]}}
    finished = from_history(ended("success", WENT, outputs=outputs)).finished
    assert finished is not None
    assert json.loads(msgspec.json.encode(finished.outputs))["3"]["kept"] == [1, 2.5, True, None]


@pytest.mark.parametrize("outputs", [None, [], "x", 3])
def test_outputs_of_another_kind_are_none(outputs: Any) -> None:
    finished = from_history(ended("success", WENT) | {"outputs": outputs}).finished
    assert finished == Finished(True)


@pytest.mark.parametrize("messages", [None, {}, [None], [[]], [["execution_error"]], [[3, {}]], ["execution_error"]])
def test_messages_that_cannot_be_read_are_passed_over(messages: Any) -> None:
    entry = ended("success") | {"status": {"status_str": "success", "messages": messages}}
    assert from_history(entry).finished == Finished(True, outputs=OUTPUTS)


@pytest.mark.parametrize("data", [None, [], "x", {"node_id": 7}])
def test_an_error_without_words_is_an_error(data: Any) -> None:
    finished = from_history(ended("success", ["execution_error", data])).finished
    assert finished is not None
    assert not finished.succeeded
    assert finished.error is not None
