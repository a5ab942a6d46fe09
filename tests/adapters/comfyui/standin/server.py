"""The HTTP and websocket side of the stand-in: ComfyUI's routes, each also below ``/api``, and ``/standin``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tests.adapters.comfyui.standin.execution import Executor, Item, Queue
from tests.adapters.comfyui.standin.jobs import STATES, all_jobs, one_job
from tests.adapters.comfyui.standin.nodes import CLASSES, Process, describe
from tests.adapters.comfyui.standin.state import RunLog
from tests.adapters.comfyui.standin.validation import problem, validate

VERSIONS = {"old": "0.3.64", "middle": "0.8.2", "new": "0.38.1"}
SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_canonical(prompt_id: Any) -> bool:
    try:
        return isinstance(prompt_id, str) and str(uuid.UUID(prompt_id)) == prompt_id
    except ValueError:
        return False


class StandinServer:
    """One process of the stand-in."""

    def __init__(self, process: Process, runs: RunLog, dialect: str, loop: asyncio.AbstractEventLoop) -> None:
        self._process = process
        self._faults = process.faults
        self._dialect = dialect
        self._is_new = dialect != "old"
        self._is_newest = dialect == "new"
        self._loop = loop
        self._messages: asyncio.Queue[tuple[Any, Any, str | None]] = asyncio.Queue()
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._number = 0
        self._asked = 0
        self._queue = Queue(lambda: self._send("status", {"status": self._info()}, None))
        self._executor = Executor(self._queue, process, runs, self._send, self._is_new)
        self._late: set[asyncio.Task[None]] = set()
        process.block = self._block

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._fail_first], client_max_size=100 * 2**20)
        gets = {
            "/ws": self._websocket,
            "/prompt": self._get_prompt,
            "/queue": self._get_queue,
            "/history": self._get_history,
            "/history/{prompt_id}": self._get_history,
            "/object_info": self._object_info,
            "/object_info/{name}": self._object_info,
            "/system_stats": self._system_stats,
            "/view": self._view,
        }
        posts = {
            "/prompt": self._post_prompt,
            "/queue": self._post_queue,
            "/history": self._post_history,
            "/interrupt": self._interrupt,
            "/free": self._free,
        }
        for prefix in ("", "/api"):
            application.add_routes([web.get(prefix + path, handler) for path, handler in gets.items()])
            application.add_routes([web.post(prefix + path, handler) for path, handler in posts.items()])
        if self._is_new:
            application.router.add_get("/api/jobs", self._get_jobs)
            application.router.add_get("/api/jobs/{prompt_id}", self._get_job)
        if self._is_newest:
            application.router.add_post("/api/jobs/{prompt_id}/cancel", self._cancel_job)
        application.router.add_route("*", "/standin/{word}", self._control)
        application.router.add_get("/{path:.*}", self._static)
        return application

    async def run(self, host: str, port: int) -> None:
        """Serve until the process ends.

        Raises:
            OSError: The port is taken.
        """
        runner = web.AppRunner(self.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, port).start()
        threading.Thread(target=self._executor.work, daemon=True).start()
        logging.info("Starting server\n")
        logging.info("To see the GUI go to: http://%s:%d", host, port)
        while True:
            await self._deliver(*await self._messages.get())

    # Messages

    def _send(self, event: Any, data: Any, client: str | None) -> None:
        self._loop.call_soon_threadsafe(self._messages.put_nowait, (event, data, client))

    async def _deliver(self, event: Any, data: Any, client: str | None) -> None:
        sockets = list(self._sockets.values()) if client is None else [self._sockets.get(client)]
        for socket in sockets:
            with contextlib.suppress(ConnectionError):
                if socket is not None and isinstance(data, bytes):
                    await socket.send_bytes(int(event).to_bytes(4, "big") + data)
                elif socket is not None:
                    await socket.send_json({"type": event, "data": data})

    def _info(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self._queue.remaining}}

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        client = request.query.get("clientId") or uuid.uuid4().hex
        self._sockets[client] = socket
        try:
            await self._deliver("status", {"status": self._info(), "sid": client}, client)
            if self._executor.client == client and self._executor.node is not None:
                await self._deliver("executing", {"node": self._executor.node}, client)
            async for message in socket:
                if message.type == WSMsgType.TEXT and json.loads(message.data).get("type") == "feature_flags":
                    await self._deliver("feature_flags", {"supports_preview_metadata": True}, client)
        finally:
            # The end of an old connection takes a newer one of the same name with it: that client hears no more.
            self._sockets.pop(client, None)
        return socket

    # Prompts

    async def _post_prompt(self, request: web.Request) -> web.StreamResponse:
        faults = self._faults
        faults.die("die_before")
        body = await request.json()
        await asyncio.sleep(faults.hang_before)
        if faults.spend("drop_before"):
            return self._drop(request)
        if faults.spend("drop_late"):
            task = self._loop.create_task(self._take_later(body, faults.late))
            self._late.add(task)
            return self._drop(request)
        answer, status = self._take(body)
        faults.die("die_after")
        await asyncio.sleep(faults.hang_after)
        if faults.spend("drop_after"):
            return self._drop(request)
        return web.json_response(answer, status=status)

    def _drop(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _take_later(self, body: dict[str, Any], seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._take(body)

    def _take(self, body: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """Check a prompt and put it in the queue. Nothing looks whether it is there already."""
        if "number" in body:
            number = float(body["number"])
        else:
            number = -self._number if body.get("front") else self._number
            self._number += 1
        if "prompt" not in body:
            return {"error": problem("no_prompt", "No prompt provided", "No prompt provided"), "node_errors": {}}, 400
        prompt_id = body.get("prompt_id")
        if prompt_id is None:
            prompt_id = str(uuid.uuid4())
        elif self._is_newest and not is_canonical(prompt_id):
            details = (
                "prompt_id must be a UUID string in canonical lowercase hyphenated form;"
                " omit it to let the server generate one"
            )
            error = problem("invalid_prompt_id", "prompt_id must be a valid UUID", details)
            return {"error": error, "node_errors": {}}, 400
        graph = body["prompt"]
        verdict = validate(graph, self._process.folders, self._is_new)
        if verdict.error is not None:
            return {"error": verdict.error, "node_errors": verdict.node_errors}, 400
        extra = {key: value for key, value in body.get("extra_data", {}).items() if key not in SECRETS}
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        if self._is_new:
            extra["create_time"] = int(time.time() * 1000)
        self._queue.put(Item(number, str(prompt_id), graph, extra, verdict.outputs))
        return {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}, 200

    async def _get_prompt(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._info())

    async def _get_queue(self, request: web.Request) -> web.StreamResponse:
        with self._queue.lock:
            running = [one.listed() for one in self._queue.running]
            pending = [one.listed() for one in self._queue.pending]
        return web.json_response({"queue_running": running, "queue_pending": pending})

    async def _post_queue(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._faults.spend("lose_cancel"):
            return web.Response()
        if body.get("clear"):
            with self._queue.lock:
                self._queue.pending.clear()
                self._queue.changed()
        for prompt_id in body.get("delete", ()):
            self._queue.delete(prompt_id)
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.StreamResponse:
        prompt_id = request.match_info.get("prompt_id")
        with self._queue.lock:
            history = dict(self._queue.history)
        if prompt_id is not None:
            history = {prompt_id: history[prompt_id]} if prompt_id in history else {}
        elif "max_items" in request.query:
            history = dict(list(history.items())[-int(request.query["max_items"]) :])
        return web.json_response(history)

    async def _post_history(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        with self._queue.lock:
            if body.get("clear"):
                self._queue.history.clear()
            for prompt_id in body.get("delete", ()):
                self._queue.history.pop(prompt_id, None)
        return web.Response()

    async def _interrupt(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else {}
        if self._faults.spend("lose_cancel"):
            return web.Response()
        if body.get("prompt_id"):
            self._executor.interrupt_if_running(body["prompt_id"])
        else:
            self._executor.interrupt.set()
        return web.Response()

    async def _free(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        for name in ("unload_models", "free_memory"):
            if body.get(name):
                self._queue.flag(name)
        return web.Response()

    async def _get_jobs(self, request: web.Request) -> web.StreamResponse:
        jobs = all_jobs(self._queue, self._is_newest)
        if "status" in request.query:
            wanted = request.query["status"].split(",")
            wrong = [one for one in wanted if one not in STATES]
            if wrong:
                words = f"Invalid status value(s): {', '.join(wrong)}. Valid values: {', '.join(STATES)}"
                return web.json_response({"error": words}, status=400)
            jobs = [one for one in jobs if one["status"] in wanted]
        pages = {"offset": 0, "limit": None, "total": len(jobs), "has_more": False}
        return web.json_response({"jobs": jobs, "pagination": pages})

    async def _get_job(self, request: web.Request) -> web.StreamResponse:
        job = one_job(self._queue, request.match_info["prompt_id"], self._is_newest)
        return web.json_response(job or {"error": "Job not found"}, status=200 if job else 404)

    async def _cancel_job(self, request: web.Request) -> web.StreamResponse:
        prompt_id = request.match_info["prompt_id"]
        if self._faults.spend("lose_cancel"):
            return web.json_response({"cancelled": False})
        is_cancelled = self._executor.interrupt_if_running(prompt_id) or self._queue.delete(prompt_id)
        return web.json_response({"cancelled": is_cancelled})

    # What it has

    async def _object_info(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name")
        names = CLASSES if name is None else CLASSES.keys() & {name}
        return web.json_response({one: describe(one, self._process.folders, self._is_new) for one in names})

    async def _system_stats(self, request: web.Request) -> web.StreamResponse:
        system = {
            "os": sys.platform,
            "ram_total": 16 * 2**30,
            "ram_free": 8 * 2**30,
            "comfyui_version": VERSIONS[self._dialect],
            "python_version": sys.version,
            "pytorch_version": "2.9.0+cpu",
            "embedded_python": False,
            "argv": sys.argv,
        }
        memory = dict.fromkeys(("vram_total", "vram_free", "torch_vram_total", "torch_vram_free"), 16 * 2**30)
        return web.json_response(
            {"system": system, "devices": [{"name": "cpu", "type": "cpu", "index": None, **memory}]}
        )

    async def _view(self, request: web.Request) -> web.StreamResponse:
        if "filename" not in request.query:
            return web.Response(status=404)
        name = request.query["filename"]
        folder = self._process.folders.of(request.query.get("type", "output"))
        if not name or name.startswith("/") or ".." in name or folder is None:
            return web.Response(status=400)
        if name.startswith("unreadable"):  # as on a network drive that is away
            return web.Response(status=500)
        inside = (folder / request.query.get("subfolder", "")).resolve()
        if not inside.is_relative_to(folder.resolve()):
            return web.Response(status=403)
        path = inside / Path(name).name
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path, headers={"Content-Disposition": f'filename="{path.name}"'})

    async def _static(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404 if request.path != "/" else 200, text="ComfyUI")

    # Faults

    @web.middleware
    async def _fail_first(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/standin/"):
            self._asked += 1
            if self._faults.spend("unavailable"):
                return web.Response(status=503)
            await asyncio.sleep(self._faults.slow)
        return await handler(request)

    def _block(self, seconds: float) -> None:
        done = threading.Event()

        def block() -> None:
            time.sleep(seconds)
            done.set()

        self._loop.call_soon_threadsafe(block)
        done.wait()

    async def _control(self, request: web.Request) -> web.StreamResponse:
        """``faults`` sets and shows them, ``asked`` counts requests; the others happen at once."""
        body = await request.json() if request.can_read_body else {}
        match request.match_info["word"]:
            case "faults":
                self._faults.set(body)
                return web.json_response(self._faults.as_dict())
            case "asked":
                return web.json_response({"requests": self._asked})
            case "die":
                os.kill(os.getpid(), body["signal"])
            case "exit":
                os._exit(body["code"])
            case "block":
                self._loop.call_soon(time.sleep, body["seconds"])
            case "forget":
                self._queue.forget()
            case "release":
                self._process.is_released = True
            case "cut":
                for socket in list(self._sockets.values()):
                    transport = socket._req.transport if socket._req is not None else None
                    if transport is not None:
                        transport.abort()
            case word:
                return web.json_response({"error": f"no such word: {word}"}, status=404)
        return web.json_response({})
