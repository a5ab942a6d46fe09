"""What launchers of tests install and run: models, an application in a git repository, a package, and its server.

The server paints a picture for each prompt, ``PUT /ID``: once, however often it is asked. It needs the package.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from adapters.demo.server import FileServer, Hosted
from tests.adapters.git.servers import GitServer, git
from tests.adapters.packages.index import Index

SERVER = """
import sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import brush

one_at_a_time = threading.Lock()


class Painter(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer("ready")

    def do_PUT(self):
        picture = Path("../pictures", unquote(self.path[1:]) + ".txt")
        with one_at_a_time:
            if not picture.exists():
                note(f"begins {picture.stem}")
                time.sleep(SECONDS)
                picture.write_text(brush.paint(picture.stem))
        self.answer(f"pictures/{picture.name}")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def note(line):
    with open("../pictures/notes", "a") as file:
        print(line, file=file)


Path("../pictures").mkdir(exist_ok=True)
note("starts")
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Painter)
server.timeout = 0.5
while Path("../pictures").exists():  # or its test is over
    server.handle_request()
"""
BRUSH = 'def paint(text):\n    return f"a picture of {text}"\n'
MODELS = ("base.safetensors", "vae.safetensors", "lora.safetensors")


class Application:
    """Where launchers get it from: the servers of its models, its repository and its package.

    Args:
        folder: An empty folder for the repository.
        stack: Ends the servers.
        seconds: How long a picture takes.
    """

    def __init__(self, folder: Path, stack: ExitStack, *, seconds: float = 0.0) -> None:
        self.models = {name: Hosted(safetensors(number)) for number, name in enumerate(MODELS)}
        self.files = stack.enter_context(FileServer({f"/{name}": one for name, one in self.models.items()}))
        self.index = stack.enter_context(Index())
        self.index.add("brush", "1.0", files={"brush/__init__.py": BRUSH})
        self.git = stack.enter_context(GitServer(folder))
        place = folder / "painter"
        place.mkdir(parents=True)
        (place / "server.py").write_text(SERVER.replace("SECONDS", str(seconds)))
        (place / "requirements.txt").write_text("brush==1.0\n")
        git(place, "init", "--quiet")
        git(place, "add", ".")
        git(place, "commit", "--quiet", "--message", "one")
        self.repository = self.git.url("painter")

    def begun(self) -> Counter[str]:
        """How often each thing was asked for, by the name of its call."""
        begun = Counter(f"models{request.path}" for request in self.files.requests)
        begun["program"] = self.git.asked_for("info/refs")
        begun["packages program/requirements.txt"] = self.index.asked(".whl")
        return begun


def safetensors(number: int, size: int = 2_000_000) -> bytes:
    """A model of *size* bytes that are all *number*."""
    head = json.dumps({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes([number]) * size
