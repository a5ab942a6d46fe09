"""A small look-alike of ComfyUI to practise with: its queue is in memory alone, and each picture takes a second.

A folder with this ``main.py`` passes for that of ComfyUI:

    import adapters.demo.comfyui

    adapters.demo.comfyui.serve()

It has the node classes ``EmptyImage`` and ``SaveImage``, and ``Crash``, which ends the server. Its process id is in the
file ``pid`` of that folder.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
import uuid
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STEPS = 10
STEP = 0.1
"""Seconds of a step; a picture takes ten."""

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CLASSES: dict[str, tuple[dict[str, Any], bool]] = {
    "EmptyImage": (
        {"width": ["INT", {}], "height": ["INT", {}], "batch_size": ["INT", {}], "color": ["INT", {}]},
        False,
    ),
    "SaveImage": ({"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}, True),
    "Crash": ({}, False),
}
"""The inputs of each class of nodes, and whether a prompt may end with it."""

CLOSE = 8
"""The kind of a frame of a websocket that ends it."""

KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class LookAlike:
    """The queue, the history, and the thread that paints one prompt after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: list[list[Any]] = []
        self.running: list[list[Any]] = []
        self.history: dict[str, Any] = {}
        self.sockets: dict[str, socket.socket] = {}
        self.changed = threading.Condition()
        self.interrupted = False
        self._number = 0

    def take(self, posted: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Put a prompt into the queue; returns the status and the body of the answer."""
        graph, outputs = posted["prompt"], []
        for node, one in graph.items():
            kind = one.get("class_type")
            if kind not in CLASSES:
                words = f"Cannot execute because node {kind} does not exist."
                about = {"node_id": node, "class_type": kind, "node_title": kind}
                return 400, _error("invalid_prompt", words, f"Node ID '#{node}'", about)
            outputs += [node] if CLASSES[kind][1] else []
        if not outputs:
            return 400, _error("prompt_no_outputs", "Prompt has no outputs", "", {})
        prompt_id = str(posted.get("prompt_id") or uuid.uuid4())
        extra = {**posted.get("extra_data", {}), "client_id": posted.get("client_id")}
        with self.changed:
            number, self._number = self._number, self._number + 1
            self.pending.append([number, prompt_id, graph, extra, outputs])
            self.changed.notify()
        return 200, {"prompt_id": prompt_id, "number": number, "node_errors": {}}

    def remove(self, prompts: list[str]) -> None:
        """Forget prompts that wait. Nothing says later that they were there, as with ComfyUI."""
        with self.changed:
            self.pending = [one for one in self.pending if one[1] not in prompts]

    def interrupt(self, prompt: str | None) -> None:
        """Interrupt what runs, if it is *prompt* or that is not given."""
        with self.changed:
            self.interrupted |= any(prompt in (None, one[1]) for one in self.running)

    def paint(self) -> None:
        """Run the prompts, one after another, for ever."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.pending)
                item, self.interrupted = self.pending.pop(0), False
                self.running.append(item)
            _note(f"got prompt {item[1]}")
            outputs, status = self._run(*item[1:4])
            with self.changed:
                self.running.remove(item)
                self.history[item[1]] = {"prompt": item, "outputs": outputs, "status": status, "meta": {}}
            self._say(item, "executing", node=None)
            _note("Prompt executed")

    def _run(self, prompt: str, graph: dict[str, Any], extra: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        item, outputs = [0, prompt, graph, extra], dict[str, Any]()
        self._say(item, "execution_start")
        for node, one in sorted(graph.items(), key=lambda named: CLASSES[named[1]["class_type"]][1]):
            self._say(item, "executing", node=node)
            if one["class_type"] == "Crash":
                os.kill(os.getpid(), signal.SIGKILL)
            for step in range(1, STEPS + 1) if one["class_type"] == "EmptyImage" else ():
                time.sleep(STEP)
                if self.interrupted:
                    about = {"prompt_id": prompt, "node_id": node, "node_type": one["class_type"], "executed": []}
                    self._say(item, "execution_interrupted", **about)
                    return outputs, _status("error", ["execution_interrupted", about])
                self._say(item, "progress", node=node, value=step, max=STEPS)
            if one["class_type"] == "SaveImage":
                outputs[node] = {"images": [self._save(str(one["inputs"].get("filename_prefix", "ComfyUI")))]}
                self._say(item, "executed", node=node, output=outputs[node])
        self._say(item, "execution_success")
        return outputs, _status("success", ["execution_success", {"prompt_id": prompt}])

    def _save(self, prefix: str) -> dict[str, str]:
        folder = self.folder / "output"
        folder.mkdir(exist_ok=True)
        prefix = Path(prefix).name
        number = 1 + sum(one.name.startswith(f"{prefix}_") for one in folder.iterdir())
        path = folder / f"{prefix}_{number:05}_.png"
        path.write_bytes(PIXEL)
        return {"filename": path.name, "subfolder": "", "type": "output"}

    def _say(self, item: list[Any], kind: str, **data: Any) -> None:
        """Tell the client of the prompt, and no other."""
        text = json.dumps({"type": kind, "data": {**data, "prompt_id": item[1]}}).encode()
        head = bytes([0x81, len(text)]) if len(text) < 126 else bytes([0x81, 126]) + len(text).to_bytes(2, "big")
        if client := self.sockets.get(str(item[3].get("client_id"))):
            with suppress(OSError):
                client.sendall(head + text)


def _note(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _error(kind: str, message: str, details: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, "details": details, "extra_info": more}, "node_errors": {}}


def _status(word: str, *messages: Any) -> dict[str, Any]:
    return {"status_str": word, "completed": word == "success", "messages": list(messages)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    comfy: LookAlike


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the base class calls it so
        comfy, url = self.server.comfy, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path.split("/")[1:]:
            case ["system_stats"]:
                self._answer(200, {"system": {"argv": sys.argv, "comfyui_version": "look-alike"}, "devices": []})
            case ["prompt"]:
                self._answer(200, {"exec_info": {"queue_remaining": len(comfy.pending) + len(comfy.running)}})
            case ["queue"]:
                with comfy.changed:
                    self._answer(200, {"queue_running": comfy.running, "queue_pending": comfy.pending})
            case ["history", prompt]:
                self._answer(200, {prompt: comfy.history[prompt]} if prompt in comfy.history else {})
            case ["object_info", *names]:
                self._answer(200, {name: _described(name) for name in CLASSES if not names or name in names})
            case ["view"]:
                path = comfy.folder / "output" / Path(unquote(query.get("filename", ""))).name
                self._answer(200, path.read_bytes()) if path.is_file() else self._answer(404, b"")
            case ["ws"]:
                self._talk(query.get("clientId") or uuid.uuid4().hex)
            case _:
                self._answer(404, b"")

    do_HEAD = do_GET  # noqa: N815  # likewise

    def do_POST(self) -> None:  # the base class calls it so
        comfy = self.server.comfy
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        match self.path.split("?")[0]:
            case "/prompt":
                self._answer(*comfy.take(asked))
            case "/queue":
                comfy.remove(asked.get("delete", []))
                self._answer(200, b"")
            case "/interrupt":
                comfy.interrupt(asked.get("prompt_id"))
                self._answer(200, b"")
            case "/free":
                self._answer(200, b"")
            case _:
                self._answer(404, b"")

    def _answer(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "image/png" if data is body else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _talk(self, client: str) -> None:
        """Be a websocket that sends text, and takes nothing but a close, until the client is gone."""
        accepted = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + KEY).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accepted)):
            self.send_header(name, value)
        self.end_headers()
        self.server.comfy.sockets[client] = self.connection
        self.close_connection = True
        with suppress(OSError):
            while (frame := self.connection.recv(4096)) and frame[0] & 0x0F != CLOSE:
                pass
            self.connection.sendall(bytes([0x80 | CLOSE, 0]))
        self.server.comfy.sockets.pop(client, None)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing."""


def _described(name: str) -> dict[str, Any]:
    inputs, is_output = CLASSES[name]
    return {"input": {"required": inputs}, "name": name, "display_name": name, "output_node": is_output}


def serve(folder: Path | None = None) -> None:
    """Serve on 127.0.0.1 until a signal ends the process.

    Args:
        folder: Of ``output`` and ``pid``; by default that of the program.
    """
    options = argparse.ArgumentParser(description="A small look-alike of ComfyUI.")
    options.add_argument("--port", type=int, default=8188)
    chosen = options.parse_args()
    place = folder or Path(sys.argv[0]).resolve().parent
    comfy = LookAlike(place)
    server = _Server(("127.0.0.1", chosen.port), _Handler)
    server.comfy = comfy
    (place / "pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    threading.Thread(target=comfy.paint, daemon=True).start()
    _note(f"To see the GUI go to: http://127.0.0.1:{chosen.port}")
    with suppress(KeyboardInterrupt):
        server.serve_forever()
