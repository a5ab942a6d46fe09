"""What a ComfyUI server does that the client relies on: the stand-in in each dialect, and a real one by hand.

``COMFYUI_DIR=~/ComfyUI COMFYUI_ARGS=--cpu pytest -m comfyui tests/adapters/comfyui`` asks a real server.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any
from urllib.parse import urlencode

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.graphs import Graph
from tests.adapters.comfyui.standin.child import Standin
from tests.adapters.comfyui.standin.real import RealServer
from tests.until import wait_until

SEEDS = count(int(uuid.uuid4()) % 10**6 * 10)
LONG = 120.0


def fresh_id() -> str:
    return str(uuid.uuid4())


def own_picture(**options: Any) -> Graph:
    """A picture that no cache has."""
    return graphs.picture(next(SEEDS), **options)


def slow_picture(server: Standin) -> Graph:
    """Runs until it is interrupted."""
    seed = next(SEEDS)
    return (
        graphs.slow_picture(seed, blurs=30) if isinstance(server, RealServer) else graphs.picture(seed, 30, steps=300)
    )


def post(server: Standin, graph: Graph, prompt_id: str = "", client: str = "", **body: Any) -> Any:
    """Queue a prompt that is right."""
    more = {"client_id": client} if client else {}
    status, answer = server.ask(
        "POST", "/prompt", {"prompt": graph, "prompt_id": prompt_id or fresh_id(), **more, **body}
    )
    assert status == 200, answer
    return answer


def history(server: Standin, prompt_id: str) -> Any:
    return server.ask("GET", f"/history/{prompt_id}")[1].get(prompt_id)


def finish(server: Standin, prompt_id: str) -> Any:
    """The entry of a prompt in the history, once it has one."""
    wait_until(lambda: history(server, prompt_id), LONG)
    return history(server, prompt_id)


def queued(server: Standin) -> tuple[list[str], list[str]]:
    """The ids of what runs, and of what waits."""
    _, answer = server.ask("GET", "/queue")
    return [one[1] for one in answer["queue_running"]], [one[1] for one in answer["queue_pending"]]


def run_slowly(server: Standin) -> str:
    """A prompt that runs."""
    running = post(server, slow_picture(server))["prompt_id"]
    wait_until(lambda: queued(server)[0] == [running], LONG)
    return str(running)


def has_jobs(server: Standin) -> bool:
    """The probe of the dialect: an unknown job is a 404 in JSON, and an unknown path is one in another form."""
    status, answer = server.ask("GET", f"/api/jobs/{fresh_id()}")
    assert status == 404
    return isinstance(answer, dict)


def has_cancel(server: Standin) -> bool:
    """The probe of the newest dialect: an unknown job can be cancelled, to no effect."""
    status, answer = server.ask("POST", f"/api/jobs/{fresh_id()}/cancel")
    assert (status, answer) == (200, {"cancelled": False}) or status in (404, 405)
    return bool(status == 200)


def view(server: Standin, file: dict[str, str], method: str = "GET") -> tuple[int, Any]:
    return server.ask(method, f"/view?{urlencode(file)}")


@contextmanager
def listening(server: Standin, client: str) -> Iterator[ClientConnection]:
    with connect(f"ws://{server.host}:{server.port}/ws?clientId={client}", proxy=None, max_size=2**26) as socket:
        first = json.loads(socket.recv(10))
        assert (first["type"], first["data"]["sid"]) == ("status", client)
        yield socket


def messages_of(socket: ClientConnection, prompt_id: str) -> list[Any]:
    """All messages until the end of a prompt: ``executing`` without a node. A preview is its bytes."""
    seen: list[Any] = []
    while True:
        raw = socket.recv(LONG)
        seen.append(raw if isinstance(raw, bytes) else json.loads(raw))
        last = seen[-1]
        if isinstance(last, dict) and last["type"] == "executing" and last["data"]["node"] is None:
            assert last["data"]["prompt_id"] == prompt_id
            return seen


def test_it_tells_its_command_line_and_its_version(idle: Standin) -> None:
    status, stats = idle.ask("GET", "/system_stats")
    assert status == 200
    assert {"argv", "comfyui_version"} <= stats["system"].keys()
    assert stats["system"]["argv"][0].endswith("main.py")
    assert idle.ask("GET", "/api/system_stats")[1]["system"]["argv"] == stats["system"]["argv"]


def test_numbers_rise_also_by_prompts_that_are_refused(idle: Standin) -> None:
    first = post(idle, own_picture())["number"]
    assert idle.ask("POST", "/prompt", {"prompt": graphs.without_outputs()})[0] == 400
    assert post(idle, own_picture())["number"] == first + 2


def test_a_prompt_is_known_by_the_id_that_its_client_chose(idle: Standin) -> None:
    prompt_id = str(uuid.uuid5(uuid.NAMESPACE_URL, fresh_id()))
    assert post(idle, own_picture(), prompt_id)["prompt_id"] == prompt_id
    entry = finish(idle, prompt_id)
    assert (entry["prompt"][1], entry["status"]["status_str"], entry["status"]["completed"]) == (
        prompt_id,
        "success",
        True,
    )


def test_newer_servers_take_no_other_id_than_a_canonical_uuid(idle: Standin) -> None:
    for prompt_id in ("abc", fresh_id().upper(), uuid.uuid4().hex):
        status, answer = idle.ask("POST", "/prompt", {"prompt": own_picture(), "prompt_id": prompt_id})
        if has_cancel(idle):
            assert (status, answer["error"]["type"]) == (400, "invalid_prompt_id")
        else:
            assert (status, answer["prompt_id"]) == (200, prompt_id)


def test_a_prompt_moves_from_pending_to_running_to_history(idle: Standin) -> None:
    running = run_slowly(idle)
    waiting = post(idle, own_picture())["prompt_id"]
    assert queued(idle) == ([running], [waiting])
    assert history(idle, waiting) is None
    if has_jobs(idle):
        assert idle.ask("GET", f"/api/jobs/{running}")[1]["status"] == "in_progress"
        assert idle.ask("GET", f"/api/jobs/{waiting}")[1]["status"] == "pending"
        listed = idle.ask("GET", "/api/jobs?status=pending,in_progress")[1]["jobs"]
        assert {one["id"] for one in listed} == {running, waiting}
    idle.ask("POST", "/interrupt", {"prompt_id": running})
    finish(idle, waiting)
    assert queued(idle) == ([], [])
    if has_jobs(idle):
        job = idle.ask("GET", f"/api/jobs/{waiting}")[1]
        assert (job["status"], job["outputs"]) == ("completed", finish(idle, waiting)["outputs"])


def test_a_prompt_that_is_deleted_leaves_no_trace(idle: Standin) -> None:
    run_slowly(idle)
    waiting = post(idle, own_picture())["prompt_id"]
    assert idle.ask("POST", "/queue", {"delete": [waiting]})[0] == 200
    assert waiting not in queued(idle)[1]
    assert history(idle, waiting) is None
    if has_jobs(idle):
        assert idle.ask("GET", f"/api/jobs/{waiting}")[0] == 404


def test_an_interrupt_ends_the_prompt_that_it_names_alone(idle: Standin) -> None:
    running = run_slowly(idle)
    assert idle.ask("POST", "/interrupt", {"prompt_id": fresh_id()})[0] == 200
    assert queued(idle)[0] == [running]
    assert idle.ask("POST", "/interrupt", {"prompt_id": running})[0] == 200
    status = finish(idle, running)["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)
    assert status["messages"][-1][0] == "execution_interrupted"
    if has_jobs(idle):
        assert idle.ask("GET", f"/api/jobs/{running}")[1]["status"] == ("cancelled" if has_cancel(idle) else "failed")


def test_newer_servers_cancel_a_job_wherever_it_is(idle: Standin) -> None:
    if not has_cancel(idle):
        return
    running, waiting = run_slowly(idle), post(idle, own_picture())["prompt_id"]
    answers = [idle.ask("POST", f"/api/jobs/{one}/cancel") for one in (waiting, running, waiting, fresh_id())]
    assert answers == [(200, {"cancelled": one}) for one in (True, True, False, False)]
    finish(idle, running)
    assert queued(idle) == ([], [])


def test_the_same_prompt_posted_twice_runs_twice(idle: Standin) -> None:
    run_slowly(idle)
    prompt_id, graph = fresh_id(), own_picture()
    numbers = [post(idle, graph, prompt_id)["number"] for _ in range(2)]
    assert numbers[0] < numbers[1]
    assert queued(idle)[1] == [prompt_id, prompt_id]


def test_an_equal_graph_repeats_its_old_file_until_the_memory_is_freed(idle: Standin) -> None:
    graph = own_picture(prefix=f"cached-{uuid.uuid4().hex}")
    first, second = (finish(idle, post(idle, graph)["prompt_id"]) for _ in range(2))
    assert second["outputs"] == first["outputs"]
    cached = dict(second["status"]["messages"])["execution_cached"]
    assert sorted(cached["nodes"]) == ["1", "3"]
    idle.ask("POST", "/free", {"unload_models": True, "free_memory": True})
    third = finish(idle, post(idle, own_picture())["prompt_id"]) and finish(idle, post(idle, graph)["prompt_id"])
    names = [one["outputs"]["3"]["images"][0]["filename"] for one in (first, third)]
    assert [name[-11:] for name in names] == ["_00001_.png", "_00002_.png"]


def test_a_cached_output_is_repeated_also_if_its_file_is_gone(idle: Standin) -> None:
    if isinstance(idle, RealServer) and not idle.is_ours:
        pytest.skip("the files of a server at COMFYUI_URL are out of reach")
    graph = own_picture(prefix=f"gone-{uuid.uuid4().hex}")
    [file] = finish(idle, post(idle, graph)["prompt_id"])["outputs"]["3"]["images"]
    (idle.output / file["filename"]).unlink()
    assert finish(idle, post(idle, graph)["prompt_id"])["outputs"]["3"]["images"] == [file]
    assert view(idle, file)[0] == 404


def test_files_are_asked_for_by_view(idle: Standin) -> None:
    prefix = f"view-{uuid.uuid4().hex}/b"
    [file] = finish(idle, post(idle, own_picture(prefix=prefix))["prompt_id"])["outputs"]["3"]["images"]
    assert file == {"filename": "b_00001_.png", "subfolder": prefix[:-2], "type": "output"}
    status, data = view(idle, file)
    assert (status, data[:4]) == (200, b"\x89PNG")
    assert view(idle, file, "HEAD") == (200, b"")
    assert [view(idle, file | {"filename": "absent.png"}, one)[0] for one in ("GET", "HEAD")] == [404, 404]
    assert view(idle, file | {"filename": "../b_00001_.png"})[0] == 400
    [temp] = finish(idle, post(idle, graphs.preview(next(SEEDS)))["prompt_id"])["outputs"]["3"]["images"]
    assert (temp["type"], view(idle, temp)[0]) == ("temp", 200)


@pytest.mark.parametrize(
    ("graph", "node", "kind"),
    [
        (graphs.without_input(), "1", "required_input_missing"),
        (graphs.too_big(), "1", "value_bigger_than_max"),
        (graphs.checkpoint("absent-4f1c.safetensors"), "4", "value_not_in_list"),
    ],
    ids=["an input is missing", "a value is too big", "a model is missing"],
)
def test_a_prompt_with_a_wrong_input_is_refused(idle: Standin, graph: Graph, node: str, kind: str) -> None:
    status, answer = idle.ask("POST", "/prompt", {"prompt": graph, "prompt_id": fresh_id()})
    assert (status, answer["error"]["type"]) == (400, "prompt_outputs_failed_validation")
    wrong = answer["node_errors"][node]
    assert (wrong["class_type"], wrong["dependent_outputs"]) == (graph[node]["class_type"], ["3"])
    assert [one["type"] for one in wrong["errors"]] == [kind]
    assert {"message", "details", "extra_info"} <= wrong["errors"][0].keys()
    assert wrong["errors"][0]["extra_info"]["input_name"]


def test_a_prompt_with_an_unknown_class_is_refused(idle: Standin) -> None:
    status, answer = idle.ask("POST", "/prompt", {"prompt": graphs.unknown_class(), "prompt_id": fresh_id()})
    error = answer["error"]
    assert (status, error["details"], not answer["node_errors"]) == (400, "Node ID '#9'", True)
    if error["type"] == "missing_node_type":
        assert error["extra_info"] == {"node_id": "9", "class_type": "AbsentNode", "node_title": "Absent"}
    else:
        assert (error["type"], "AbsentNode" in error["message"]) == ("invalid_prompt", True)


def test_a_prompt_without_outputs_is_refused(idle: Standin) -> None:
    status, answer = idle.ask("POST", "/prompt", {"prompt": graphs.without_outputs()})
    assert (status, answer["error"]["type"], not answer["node_errors"]) == (400, "prompt_no_outputs", True)


def test_a_prompt_that_is_right_in_part_runs_that_part(idle: Standin) -> None:
    answer = post(idle, graphs.partial(next(SEEDS)))
    assert (list(answer["node_errors"]), answer["node_errors"]["4"]["dependent_outputs"]) == (["4"], ["4"])
    assert list(finish(idle, answer["prompt_id"])["outputs"]) == ["3"]


def test_it_describes_its_classes(idle: Standin) -> None:
    described = idle.ask("GET", "/object_info/CheckpointLoaderSimple")[1]["CheckpointLoaderSimple"]
    assert isinstance(described["input"]["required"]["ckpt_name"][0], list)
    assert idle.ask("GET", "/object_info/AbsentNode") == (200, {})
    assert {"SaveImage", "EmptyImage"} <= idle.ask("GET", "/object_info")[1].keys()
    assert idle.ask("GET", "/object_info/SaveImage")[1]["SaveImage"]["output_node"] is True


def test_the_messages_of_a_good_run_go_to_its_client_alone(idle: Standin) -> None:
    ours, other = fresh_id(), fresh_id()
    with listening(idle, ours) as socket, listening(idle, other) as others:
        graph = own_picture() if isinstance(idle, RealServer) else graphs.picture(next(SEEDS), 0.01, steps=2)
        prompt_id = post(idle, graph, client=ours)["prompt_id"]
        seen = messages_of(socket, prompt_id)
        texts = [one for one in seen if isinstance(one, dict)]
        kinds = [one["type"] for one in texts if one["type"] not in ("status", "progress_state", "progress")]
        runs = len(graph) if isinstance(idle, RealServer) else 3
        ends = ["executed", "execution_success", "executing"]
        assert kinds == ["execution_start", "execution_cached", *["executing"] * runs, *ends]
        assert {one["data"]["prompt_id"] for one in texts if one["type"] != "status"} == {prompt_id}
        [executed] = [one["data"] for one in texts if one["type"] == "executed"]
        assert (executed["node"], executed["output"]) == ("3", finish(idle, prompt_id)["outputs"]["3"])
        if not isinstance(idle, RealServer):
            assert [one["data"]["value"] for one in texts if one["type"] == "progress"] == [1, 2]
            assert [one[4:8] for one in seen if isinstance(one, bytes)] == [b"\0\0\0\2"] * 2
        assert {json.loads(others.recv(10))["type"] for _ in range(2)} == {"status"}


def test_a_client_that_comes_back_before_its_old_connection_ends_stays_deaf(idle: Standin) -> None:
    client, watcher = fresh_id(), fresh_id()
    with listening(idle, client) as old, listening(idle, client) as new, listening(idle, watcher) as other:
        old.close()
        idle.ask("GET", "/prompt")
        post(idle, own_picture(), client=client)
        prompt_id = post(idle, own_picture(), client=watcher)["prompt_id"]
        messages_of(other, prompt_id)
        with pytest.raises(TimeoutError):
            new.recv(0.2)


def own(server: Standin) -> Standin:
    """A server that may be killed."""
    if isinstance(server, RealServer) and not server.is_ours:
        pytest.skip("a server at COMFYUI_URL is not ours to kill")
    return server


def test_a_killed_server_forgets_its_queue_and_its_history(idle: Standin) -> None:
    server = own(idle)
    finish(server, post(server, own_picture())["prompt_id"])
    with listening(server, fresh_id()) as socket:
        running = run_slowly(server)
        waiting = post(server, own_picture())["prompt_id"]
        assert server.kill() == -signal.SIGKILL
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(10)
        assert (closed.value.rcvd, closed.value.sent) == (None, None)  # 1006: no close frame
        with pytest.raises(ConnectionRefusedError):
            server.ask("GET", "/queue")
    server.start()
    assert (queued(server), server.ask("GET", "/history")[1]) == (([], []), {})
    assert [history(server, one) for one in (running, waiting)] == [None, None]
    assert post(server, own_picture())["number"] == 0


def test_a_node_that_ends_its_server_ends_it_as_it_says(idle: Standin) -> None:
    server = own(idle)
    with suppress(OSError):  # it may die before it answers
        post(server, graphs.killer(next(SEEDS), signal=0, code=3))
    assert server.process is not None
    assert server.process.wait(LONG) == 3
    server.start()


def test_a_node_that_fails_leaves_its_words_in_the_history(idle: Standin) -> None:
    own(idle)  # the node is the tests' own
    kind, data = finish(idle, post(idle, graphs.failing("the size must be even"))["prompt_id"])["status"]["messages"][
        -1
    ]
    assert (kind, data["node_id"], data["node_type"]) == ("execution_error", "2", "Fail")
    assert (data["exception_type"], data["exception_message"].strip()) == ("ValueError", "the size must be even")
    assert data["current_inputs"]["words"] == ["the size must be even"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 0)])
def test_a_stop_closes_no_websocket_properly(idle: Standin, number: int, code: int) -> None:
    server = own(idle)
    with listening(server, fresh_id()) as socket:
        assert server.kill(number) == code
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(10)
        assert closed.value.rcvd is None
    server.start()


def test_a_port_that_is_taken_ends_a_start_with_code_1(idle: Standin) -> None:
    server = own(idle)
    first = server.process
    server.start(until_ready=False)
    assert server.process is not None
    assert server.process.wait(LONG) == 1
    server.process = first
    assert "already in use" in server.log
