"""What a launcher asks a ComfyUI server over HTTP, in two dialects: with the jobs API, and without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import quote

import anyio

from adapters.comfyui.address import Address
from adapters.comfyui.answers import ABSENT, OutputFile, Standing
from adapters.comfyui.errors import NoAnswerError, ServerBusyError
from adapters.comfyui.http import Answer, Http, is_busy
from adapters.comfyui.parsing import (
    Accepted,
    Queue,
    Stats,
    UnreadableError,
    accepted,
    has_jobs,
    is_unknown_job,
    queue,
    queue_of_jobs,
    standing_in_history,
    standing_in_queue,
    standing_of_job,
    stats,
)

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 10.0


class Client:
    """Asks one ComfyUI server. Use it as an async context manager.

    Every method raises ServerDownError where nothing listens, ServerBusyError where no whole answer comes, and Refused
    for an answer that is not 2xx. Proxies are not used and redirects not followed.

    Args:
        url: ``http://HOST:PORT``, perhaps with credentials and a path before those of the server; or ``https``. The
            certificate of a server on this machine is not checked.
        timeout: Seconds for a connection, and twice as many for the whole answer.

    Raises:
        ValueError: *url* names no server.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self.address = Address.of(url)
        self._http = Http(self.address, timeout)
        self._has_jobs: bool | None = None

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def stats(self) -> Stats:
        """What the server says of itself."""
        return _read(stats, await self._get("/system_stats"))

    async def submit(
        self, graph: Mapping[str, Any], prompt_id: str, client_id: str, extra_data: Mapping[str, Any] | None = None
    ) -> Accepted:
        """POST a prompt, once.

        Args:
            graph: In the API format.
            prompt_id: A UUID in lower case.
            client_id: Of the websocket that gets its messages.
            extra_data: What the server keeps beside the graph.

        Raises:
            Refused: The server has taken nothing. ``body`` says why.
            ServerDownError: Nothing was sent.
            ServerBusyError: The server has taken nothing.
            NoAnswerError: It is not known whether the server has the prompt.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra_data or {}}
        answer = await self._http.post_once("/prompt", body)
        if not 200 <= answer.status < 300:
            raise self._http.refused("POST /prompt", answer)
        try:
            return accepted(answer.body)
        except UnreadableError as error:  # the page of a gateway
            raise NoAnswerError(f"ComfyUI at {self.address.shown} says nothing of the prompt: {error}") from None

    async def standing(self, prompt_id: str) -> Standing:
        """Where a prompt stands. "absent" is certain: the prompt is in no part of the server."""
        if await self._speaks_jobs():
            with suppress(ServerBusyError):  # it fails at some outputs
                answer = await self._http.get(f"/api/jobs/{quote(prompt_id, safe='')}")
                if answer.status == 200:
                    return _read(standing_of_job, answer.body)
                if answer.status == 404 and is_unknown_job(answer.body):
                    return ABSENT
            self._has_jobs = None  # perhaps another server answers now
        # In this order: a prompt goes from the queue to the history, and never back.
        found = _read(standing_in_queue, await self._get("/queue"), prompt_id)
        if found is not None:
            return found
        history = await self._get(f"/history/{quote(prompt_id, safe='')}")
        return _read(standing_in_history, history, prompt_id)

    async def queue(self) -> Queue:
        """The ids of the prompts that run, and of those that wait, in the order in which they will run."""
        if await self._speaks_jobs():
            with suppress(ServerBusyError):  # it fails at some prompts of others
                answer = await self._http.get("/api/jobs", status="in_progress,pending")
                if answer.status == 200 and (found := _read(queue_of_jobs, answer.body)) is not None:
                    return found
            self._has_jobs = None  # perhaps another server answers now
        return _read(queue, await self._get("/queue"))  # with all graphs, which may be large

    async def remove(self, prompt_id: str) -> None:
        """Delete a prompt that waits, or interrupt it where it runs. Another prompt is left alone."""
        if await self._speaks_jobs():
            path = f"/api/jobs/{quote(prompt_id, safe='')}/cancel"
            answer = await self._http.change(path, {})
            if answer.status == 200:
                return
            if answer.status not in (404, 405):  # the first servers with the jobs API cannot cancel
                raise self._http.refused(f"POST {path}", answer)
        await self._change("/queue", {"delete": [prompt_id]})
        # Old servers interrupt the prompt that runs, of which id it may be.
        if prompt_id in (await self.queue()).running:
            await self._change("/interrupt", {"prompt_id": prompt_id})

    async def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Ask the server to make room in the memory, once it runs nothing."""
        await self._change("/free", {"unload_models": unload_models, "free_memory": free_memory})

    async def has(self, file: OutputFile) -> bool:
        """Whether the server still has *file*. Raises Refused for a name that ``/view`` does not take."""
        answer = await self._http.get("/view", method="HEAD", **_query(file))
        if answer.status == 404:
            return False
        if not 200 <= answer.status < 300:
            raise self._http.refused("HEAD /view", answer)
        return True

    async def fetch(self, file: OutputFile, path: Path) -> None:
        """Write *file* to *path*, which appears whole.

        Raises FileNotFoundError if the server does not have it, and PermissionError if it does not give it out.
        """
        hidden = path.with_name(path.name + ".new")
        try:
            async with self._http.stream("/view", **_query(file)) as response:
                if response.status_code == 404:
                    raise FileNotFoundError(f"ComfyUI at {self.address.shown} has no file {file.filename}")
                if is_busy(response.status_code):
                    raise ServerBusyError(f"ComfyUI at {self.address.shown} answers {response.status_code}")
                if response.status_code != 200:
                    refused = self._http.refused("GET /view", Answer(response.status_code, None))
                    raise PermissionError(f"{refused}: it does not give {file.filename} out")
                async with await anyio.open_file(hidden, "wb") as target:
                    async for part in response.aiter_raw():
                        await target.write(part)
            await anyio.to_thread.run_sync(hidden.replace, path)
        except BaseException:
            with suppress(OSError):
                hidden.unlink(missing_ok=True)
            raise

    async def object_info(self, class_type: str | None = None) -> dict[str, Any]:
        """What the server says of its node classes, by their names; or of *class_type* alone."""
        path = "/object_info" if class_type is None else f"/object_info/{quote(class_type, safe='')}"
        answer = await self._get(path)
        if not isinstance(answer, dict):
            raise ServerBusyError(f"ComfyUI at {self.address.shown} says nothing of its nodes")
        return answer

    async def _speaks_jobs(self) -> bool:
        """Whether the server has the jobs API. It is asked once, what it refuses: a 404 may come from anything between.

        A list that it gives may fail, at the prompts of others.
        """
        if self._has_jobs is None:
            answer = await self._http.get("/api/jobs", status="none")
            self._has_jobs = answer.status == 400 and has_jobs(answer.body)
        return self._has_jobs

    async def _get(self, path: str) -> Any:
        answer = await self._http.get(path)
        if answer.status != 200:
            raise self._http.refused(f"GET {path}", answer)
        return answer.body

    async def _change(self, path: str, body: dict[str, Any]) -> None:
        answer = await self._http.change(path, body)
        if not 200 <= answer.status < 300:
            raise self._http.refused(f"POST {path}", answer)


def _read(parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What *parse* makes of an answer. An answer of something else, as a gateway's page, is none."""
    try:
        return parse(*args, **kwargs)
    except UnreadableError as error:
        raise ServerBusyError(f"ComfyUI gives no answer that can be read: {error}") from None


def _query(file: OutputFile) -> dict[str, str]:
    return {"filename": file.filename, "subfolder": file.subfolder, "type": file.type}
