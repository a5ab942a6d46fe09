"""What a launcher asks a ComfyUI server over HTTP: the stand-in in both dialects, on asyncio and trio."""

from __future__ import annotations

import json
import pickle
import signal
import uuid
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import anyio
import pytest

from adapters.comfyui.answers import ABSENT, OutputFile, Standing, files_in
from adapters.comfyui.client import Client
from adapters.comfyui.errors import NoAnswerError, Refused, ServerBusyError, ServerDownError
from adapters.comfyui.parsing import Queue
from adapters.servers.ports import free_port
from tests.adapters.comfyui import graphs
from tests.adapters.comfyui.conftest import Start
from tests.adapters.comfyui.odd_servers import CUT, SILENCE, Asked, answer, odd_server, own_certificate
from tests.adapters.comfyui.standin.child import Standin

pytestmark = pytest.mark.anyio

SEEDS = count(1)
FILE = OutputFile("a_00001_.png")
JOBS = answer(400, {"error": "Invalid status value(s): none. Valid values: pending, in_progress"})
"""What the jobs API says to the question whether it is there."""


def fresh_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
async def client(idle: Standin) -> AsyncIterator[Client]:
    async with Client(idle.url) as client:
        yield client


async def submitted(client: Client, graph: graphs.Graph) -> str:
    prompt_id = fresh_id()
    assert (await client.submit(graph, prompt_id, "c")).prompt_id == prompt_id
    return prompt_id


async def until(client: Client, prompt_id: str, state: str) -> Standing:
    with anyio.fail_after(20):
        while (standing := await client.standing(prompt_id)).state != state:
            await anyio.sleep(0.01)
    return standing


async def test_a_prompt_goes_from_pending_to_finished(client: Client) -> None:
    seed = next(SEEDS)
    first = await submitted(client, graphs.picture(seed, 0.3))
    second = await submitted(client, graphs.picture(next(SEEDS)))
    await until(client, first, "running")
    assert (await client.standing(second)).state == "pending"
    assert await client.queue() == Queue((first,), (second,))
    finished = (await until(client, first, "finished")).finished
    assert finished is not None
    assert finished.succeeded
    (file,) = (file for output in finished.outputs.values() for file in files_in(output))
    assert await client.has(file)
    await until(client, second, "finished")


async def test_an_unknown_prompt_is_absent(client: Client) -> None:
    assert await client.standing(fresh_id()) == ABSENT


async def test_a_failed_prompt_says_why_without_its_inputs(client: Client) -> None:
    prompt_id = await submitted(client, graphs.failing("the size must be even"))
    finished = (await until(client, prompt_id, "finished")).finished
    assert finished is not None
    assert not finished.succeeded
    assert finished.error is not None
    assert (finished.error.exception_type, finished.error.node_id) == ("ValueError", "2")
    assert "the size must be even" in finished.error.exception_message


async def test_a_prompt_that_waits_or_runs_is_removed(client: Client) -> None:
    runs = await submitted(client, graphs.picture(next(SEEDS), 20, steps=400))
    waits, stays = [await submitted(client, graphs.picture(next(SEEDS))) for _ in range(2)]
    await until(client, runs, "running")
    await client.remove(waits)
    assert await client.standing(waits) == ABSENT
    assert (await client.standing(runs)).state == "running"
    await client.remove(runs)
    finished = (await until(client, runs, "finished")).finished
    assert finished is not None
    assert finished.interrupted
    assert not finished.succeeded
    assert (await until(client, stays, "finished")).state == "finished"
    await client.remove(stays)  # it has ended: nothing happens
    await client.remove(fresh_id())


async def test_a_refused_prompt_says_why(client: Client) -> None:
    with pytest.raises(Refused) as raised:
        await client.submit(graphs.unknown_class("AbsentNode"), fresh_id(), "c")
    assert raised.value.status == 400
    assert "AbsentNode" in json.dumps(raised.value.body)
    assert "AbsentNode" not in f"{raised.value!r} {raised.value}"
    copied = pickle.loads(pickle.dumps(raised.value))
    assert (str(copied), copied.status, copied.body) == (str(raised.value), 400, {})
    partly = await client.submit(graphs.partial(next(SEEDS)), fresh_id(), "c")
    assert partly.node_errors.keys() == {"4"}


async def test_the_server_says_what_it_is_and_has(client: Client, idle: Standin) -> None:
    stats = await client.stats()
    assert str(idle.port) in stats.argv
    assert stats.version
    assert (await client.object_info("SaveImage")).keys() == {"SaveImage"}
    assert await client.object_info("Absent/../Node") == {}
    assert {"SaveImage", "EmptyImage"} <= (await client.object_info()).keys()
    await client.free()


async def test_a_file_is_fetched_whole_or_not_at_all(client: Client, tmp_path: Path) -> None:
    prompt_id = await submitted(client, graphs.picture(next(SEEDS), prefix="a folder/ä & b"))
    finished = (await until(client, prompt_id, "finished")).finished
    assert finished is not None
    (file,) = (file for output in finished.outputs.values() for file in files_in(output))
    assert file.subfolder == "a folder"
    await client.fetch(file, tmp_path / "got.png")
    assert (tmp_path / "got.png").read_bytes().startswith(b"\x89PNG")
    absent = OutputFile("absent.png")
    assert not await client.has(absent)
    with pytest.raises(FileNotFoundError):
        await client.fetch(absent, tmp_path / "absent.png")
    assert [one.name for one in tmp_path.iterdir()] == ["got.png"]
    with pytest.raises(Refused):
        await client.has(OutputFile("a..b.png"))


@pytest.mark.parametrize("fault", ["drop_before", "drop_after"])
async def test_a_post_that_loses_its_connection_has_no_answer(standin: Start, fault: str) -> None:
    server = standin()
    server.set(**{fault: 1})
    async with Client(server.url) as client:
        prompt_id = fresh_id()
        with pytest.raises(NoAnswerError):
            await client.submit(graphs.picture(), prompt_id, "c")
        if fault == "drop_before":
            assert await client.standing(prompt_id) == ABSENT
        else:
            await until(client, prompt_id, "finished")


async def test_a_slow_server_is_busy_and_a_dead_one_down(standin: Start) -> None:
    server = standin(dialect="old")
    async with Client(server.url, timeout=0.1) as client:
        server.set(hang_after=30.0)
        prompt_id = fresh_id()
        with pytest.raises(NoAnswerError, match=r"does not answer in time|ReadTimeout"):
            await client.submit(graphs.picture(), prompt_id, "c")
        server.set(slow=30.0)
        with pytest.raises(ServerBusyError):
            await client.standing(prompt_id)
        server.kill(signal.SIGKILL)
        for asked in (client.standing(prompt_id), client.submit(graphs.picture(), prompt_id, "c"), client.has(FILE)):
            with pytest.raises(ServerDownError, match="refuses connections"):
                await asked


async def test_a_server_that_changes_its_dialect_is_asked_in_the_other(standin: Start) -> None:
    server = standin("new")
    async with Client(server.url) as client:
        assert await client.standing(fresh_id()) == ABSENT
        server.kill()
        server.dialect = "old"
        server.configure()
        server.start()
        prompt_id = await submitted(client, graphs.picture(1, 20, steps=400))
        await until(client, prompt_id, "running")
        await client.remove(prompt_id)
        await until(client, prompt_id, "finished")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_after_a_5xx_it_is_not_known_whether_a_prompt_was_taken(status: int) -> None:
    async with odd_server(answer(status, b"<html>")) as server, Client(server.url) as client:
        with pytest.raises(NoAnswerError):
            await client.submit({}, fresh_id(), "c")
        with pytest.raises(ServerBusyError):
            await client.standing(fresh_id())
    assert len([line for line in server.lines if line.startswith("POST")]) == 1


@pytest.mark.parametrize("status", [301, 307, 308, 400, 401, 403, 404, 405, 413])
async def test_after_another_status_no_prompt_was_taken(status: int) -> None:
    async with odd_server(answer(status, b"<html>", Location="/elsewhere")) as server, Client(server.url) as client:
        with pytest.raises(Refused) as raised:
            await client.submit({}, fresh_id(), "c")
        assert (raised.value.status, raised.value.body) == (status, {})
    assert server.lines == ["POST /prompt HTTP/1.1"]


async def test_a_gateway_that_wants_to_be_asked_later_took_nothing() -> None:
    async with odd_server(answer(429)) as server, Client(server.url) as client:
        with pytest.raises(ServerBusyError):
            await client.submit({}, fresh_id(), "c")


@pytest.mark.parametrize(
    "said",
    [CUT, SILENCE, b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", b"garbage\r\n\r\n", answer(200, b"<html>")],
)
async def test_a_broken_answer_says_nothing_of_a_prompt(said: bytes | None) -> None:
    async with odd_server(said) as server, Client(server.url, timeout=0.05) as client:
        with pytest.raises(NoAnswerError):
            await client.submit({}, fresh_id(), "c")
        with pytest.raises(ServerBusyError):
            await client.standing(fresh_id())
        with pytest.raises(ServerBusyError):
            await client.queue()


@pytest.mark.parametrize("had_jobs", [False, True])
@pytest.mark.parametrize(
    "other",
    [answer(404, {"detail": "Not Found"}), answer(404, {"error": "no"}), answer(200, b"<"), answer(401)],
)
async def test_a_gateway_does_not_pass_for_the_jobs_api(other: bytes, had_jobs: bool) -> None:
    prompt_id = fresh_id()

    def said(asked: Asked) -> bytes:
        pending = [[1, prompt_id, {}, {}, []]]
        if "GET /queue" in asked.line:
            return answer(200, {"queue_running": [], "queue_pending": pending})
        return JOBS if had_jobs and "?status" in asked.line else other

    async with odd_server(said) as server, Client(server.url) as client:
        assert await client.standing(prompt_id) == Standing("pending", 1)


async def test_a_job_that_the_server_fails_to_tell_is_looked_for_in_the_queue() -> None:
    """Or its prompt would hold up all others, whose answers belong to the same look."""
    prompt_id = fresh_id()

    def said(asked: Asked) -> bytes:
        if "GET /queue" in asked.line:
            return answer(200, {"queue_running": [], "queue_pending": [[1, prompt_id, {}, {}, []]]})
        return JOBS if "?status" in asked.line else answer(500, b"Internal Server Error")

    async with odd_server(said) as server, Client(server.url) as client:
        assert await client.standing(prompt_id) == Standing("pending", 1)


async def test_the_queue_is_asked_before_the_history() -> None:
    def said(asked: Asked) -> bytes:
        return answer(200, {"queue_running": [], "queue_pending": []} if "/queue" in asked.line else {})

    prompt_id = fresh_id()
    async with odd_server(said) as server, Client(server.url) as client:
        assert await client.standing(prompt_id) == ABSENT
    assert server.lines[1:] == ["GET /queue HTTP/1.1", f"GET /history/{prompt_id} HTTP/1.1"]


async def test_the_graphs_of_what_waits_are_not_asked_for(standin: Start) -> None:
    server = standin("middle")
    async with Client(server.url) as client:
        first, second = [await submitted(client, graphs.picture(one, 20, steps=400)) for one in (1, 2)]
        await until(client, first, "running")

        async def never(path: str) -> None:
            raise AssertionError(path)

        client._get = never  # type: ignore[method-assign, assignment]
        assert await client.queue() == Queue((first,), (second,))


async def test_a_list_of_jobs_that_fails_is_no_failure() -> None:
    """ComfyUI fails to list a prompt whose ``extra_pnginfo`` is null, as long as that waits or runs."""
    prompt_id = fresh_id()

    def said(asked: Asked) -> bytes:
        if "/queue" in asked.line:
            return answer(200, {"queue_running": [[1, prompt_id, {}, {}, []]], "queue_pending": []})
        if "?" in asked.line:
            return JOBS if "status=none" in asked.line else answer(500, b"Internal Server Error")
        return answer(200, {"id": prompt_id, "status": "in_progress", "priority": 1})

    async with odd_server(said) as server, Client(server.url) as client:
        for _ in range(2):
            assert await client.queue() == Queue((prompt_id,))
            assert await client.standing(prompt_id) == Standing("running", 1)


async def test_the_first_servers_with_jobs_cannot_cancel() -> None:
    def said(asked: Asked) -> bytes:
        if "/cancel" in asked.line:
            return answer(405, b"405: Method Not Allowed")
        if "?status=none" in asked.line:
            return JOBS
        jobs = [{"id": "one", "status": "in_progress"}]
        return answer(200, {"jobs": jobs, "pagination": {"has_more": False}})

    async with odd_server(said) as server, Client(server.url) as client:
        await client.remove("two")
        listed = "/api/jobs?status=in_progress%2Cpending"
        assert [line.split()[1] for line in server.lines[2:]] == ["/queue", listed]
        await client.remove("one")
    assert server.asked[-1].line.startswith("POST /interrupt")
    assert json.loads(server.asked[-1].body) == {"prompt_id": "one"}


async def test_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port('127.0.0.1')}")
    async with odd_server(answer(200, {"system": {}})) as server, Client(server.url) as client:
        await client.stats()


async def test_a_path_and_credentials_are_sent_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    async with odd_server(answer(500, {"system": {}})) as server:
        client = Client(f"http://me:secret@127.0.0.1:{server.port}/comfy/")
        with pytest.raises(ServerBusyError) as raised:
            await client.stats()
    assert server.lines == ["GET /comfy/system_stats HTTP/1.1"]
    assert "authorization: basic bwu6c2vjcmv0" in server.asked[0].head.lower()
    assert "/comfy answers 500" in str(raised.value)
    for text in (repr(raised.value), caplog.text):
        assert "secret" not in text
        assert "bWU6c2VjcmV0" not in text


async def test_a_server_of_this_machine_may_have_a_certificate_of_its_own() -> None:
    async with odd_server(answer(200, {"system": {"argv": ["main.py"]}}), tls=own_certificate()) as server:
        async with Client(server.url.replace("http:", "https:")) as client:
            assert (await client.stats()).argv == ("main.py",)
        async with Client(server.url) as client:
            with pytest.raises(ServerBusyError):
                await client.stats()


async def test_a_host_that_is_not_there_is_not_a_dead_server() -> None:
    async with Client("http://absent.invalid:8188") as client:
        with pytest.raises(ServerBusyError, match="cannot be reached"):
            await client.submit({}, fresh_id(), "c")


async def test_a_body_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    async with odd_server(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf") as server, Client(server.url) as client:
        with pytest.raises(ServerBusyError):
            await client.fetch(FILE, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("status", "error"),
    [(503, ServerBusyError), (429, ServerBusyError), (400, PermissionError), (401, PermissionError)],
)
async def test_a_file_that_is_refused_raises_what_its_caller_knows(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    async with odd_server(answer(status, b"no")) as server, Client(server.url) as client:
        with pytest.raises(error, match=f"answers {status}"):
            await client.fetch(FILE, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


async def test_a_request_ends_at_once_when_it_is_cancelled() -> None:
    async with odd_server(SILENCE) as server, Client(server.url) as client:
        with anyio.fail_after(1), anyio.move_on_after(0.05):
            await client.standing(fresh_id())
