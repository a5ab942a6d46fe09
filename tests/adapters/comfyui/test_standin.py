"""The faults of the stand-in: each is what it says it is. Its other ways are in test_server_contract.py."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from typing import Any

import pytest

from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.graphs import Graph
from tests.adapters.comfyui.standin.child import LoggedRun, Standin
from tests.until import wait_until

pytestmark = pytest.mark.slow  # `make test` sees the faults in the tests of what is built on the stand-in


def post(server: Standin, graph: Graph) -> str:
    prompt_id = str(uuid.uuid4())
    server.ask("POST", "/prompt", {"prompt": graph, "prompt_id": prompt_id})
    return prompt_id


def end(server: Standin, graph: Graph) -> Any:
    """The last message of a run: its kind and its data."""
    prompt_id = post(server, graph)
    wait_until(lambda: prompt_id in server.ask("GET", f"/history/{prompt_id}")[1])
    return server.ask("GET", f"/history/{prompt_id}")[1][prompt_id]["status"]["messages"][-1]


def error(server: Standin, graph: Graph) -> str:
    """The class of the exception of a run that failed; the kind of its end if it did not."""
    kind, data = end(server, graph)
    return str(data.get("exception_type", kind))


@pytest.mark.parametrize(("graph", "code"), [(graphs.killer(signal=9), -9), (graphs.killer(signal=0, code=3), 3)])
def test_a_node_ends_the_process(standin: Start, graph: Graph, code: int) -> None:
    server = standin()
    with suppress(OSError):  # it may die before it answers
        post(server, graph)
    assert server.process is not None
    assert server.process.wait(10) == code
    [run] = server.runs()
    assert run == LoggedRun(run.prompt_id, server.pid, "")
    assert server.files() == []


def test_memory_runs_full_in_three_ways(standin: Start) -> None:
    server = standin()
    full = "torch.OutOfMemoryError"
    for until in ("free", "restart", "times"):
        assert error(server, graphs.hungry(until)) == full
    assert error(server, graphs.hungry("times")) == "execution_success"
    server.ask("POST", "/free", {"unload_models": True, "free_memory": True})
    assert error(server, graphs.picture(1)) == "execution_success"
    assert error(server, graphs.hungry("free")) == "execution_success"
    assert error(server, graphs.hungry("lowvram")) == full
    server.flags = ["--lowvram"]
    server.restart()
    for until in ("restart", "lowvram"):
        assert error(server, graphs.hungry(until)) == "execution_success"
    server.set(memory=1)
    assert [error(server, graphs.picture(2)) for _ in range(2)] == [full, "execution_success"]


def test_a_poisoned_context_fails_all_until_a_restart(standin: Start) -> None:
    server = standin()
    assert "CUDA error" in end(server, graphs.poisoned())[1]["exception_message"]
    assert "CUDA error" in end(server, graphs.picture(5))[1]["exception_message"]
    server.restart()
    assert [error(server, one) for one in (graphs.poisoned(), graphs.picture(5))] == ["execution_success"] * 2


def test_a_paid_node_costs_nothing_without_a_login(standin: Start) -> None:
    server = standin()
    server.set(login=1)
    kind, data = end(server, graphs.paid())
    assert (kind, data["exception_message"].strip()) == (
        "execution_error",
        "Unauthorized: Please login first to use this node.",
    )
    assert server.charges() == []
    assert error(server, graphs.paid()) == "execution_success"
    assert len(server.charges()) == 1
    assert server.ask("GET", "/object_info/PaidPicture")[1]["PaidPicture"]["api_node"] is True


def test_a_stuck_node_ignores_interrupts(standin: Start) -> None:
    server = standin()
    prompt_id = post(server, graphs.stuck())
    server.ask("POST", "/interrupt", {})
    server.ask("POST", "/interrupt", {"prompt_id": prompt_id})
    time.sleep(0.05)
    assert server.ask("GET", "/prompt")[1]["exec_info"]["queue_remaining"] == 1
    server.do("release")
    wait_until(lambda: server.runs()[0].ended)


@pytest.mark.parametrize(("fault", "taken"), [("drop_before", 0), ("drop_after", 1), ("drop_late", 1)])
def test_a_post_that_gets_no_answer_is_taken_or_not(standin: Start, fault: str, taken: int) -> None:
    server = standin()
    server.set(**{fault: 1, "late": 0.05})
    with pytest.raises(OSError):
        post(server, graphs.picture())
    if taken:
        wait_until(server.runs)
    else:
        time.sleep(0.1)
    assert len(server.runs()) == taken


@pytest.mark.parametrize(("fault", "taken"), [("die_before", 0), ("die_after", 1), ("die_at_end", 1)])
def test_it_dies_around_a_post(standin: Start, fault: str, taken: int) -> None:
    server = standin()
    server.set(**{fault: 9})
    with suppress(OSError):
        post(server, graphs.picture())
    assert server.process is not None
    assert server.process.wait(10) == -9
    assert len(server.runs()) <= taken  # a prompt that was taken need not have begun
    if fault == "die_at_end":
        assert (server.files(), server.runs()[0].ended) == (["a_00001_.png"], "")


def test_it_answers_nothing_while_it_is_busy(standin: Start) -> None:
    server = standin()
    post(server, graphs.busy(0.5))
    time.sleep(0.1)
    with pytest.raises(TimeoutError):
        server.ask("GET", "/queue", timeout=0.1)
    assert server.ask("GET", "/queue")[0] == 200
    server.set(unavailable=1)
    assert [server.ask("GET", "/queue")[0] for _ in range(2)] == [503, 200]


def test_it_forgets_what_it_was_asked_to(standin: Start) -> None:
    server = standin()
    end(server, graphs.picture())
    server.do("forget")
    assert server.ask("GET", "/history") == (200, {})


def test_starts_are_slow_fail_and_name_nodes_that_do_not_import(standin: Start) -> None:
    server = standin(options=["--import-failed", "ComfyUI-Broken", "--start-seconds", "0.2"])
    assert f"0.1 seconds (IMPORT FAILED): {server.folder}/custom_nodes/ComfyUI-Broken" in server.log
    server.configure("--failed-starts", "2")
    server.kill()
    with pytest.raises(AssertionError, match=r"(?s)it ended with 1: .*ModuleNotFoundError"):
        server.start()
    server.start()
    assert server.starts == 3


def test_models_are_read_from_the_disk(standin: Start) -> None:
    server = standin()
    post(server, graphs.checkpoint("small.safetensors"))
    assert server.runs() == []
    server.model("small.safetensors")
    server.model("up.pth", "upscale_models")
    assert error(server, graphs.checkpoint("small.safetensors")) == "execution_success"
    assert error(server, graphs.upscaled("up.pth")) == "execution_success"
    info = server.ask("GET", "/object_info/UpscaleModelLoader")[1]["UpscaleModelLoader"]
    assert info["input"]["required"]["model_name"][0] == "COMBO"


def test_text_is_an_output_without_a_file(standin: Start) -> None:
    server = standin(dialect="old")
    prompt_id = end(server, graphs.text())[1]["prompt_id"]
    assert server.ask("GET", f"/history/{prompt_id}")[1][prompt_id]["outputs"] == {"2": {"text": ["hello"]}}
    assert server.successes() == {prompt_id: 1}
