"""An application to install and run: models, a repository, an index with the package it needs, and its server.

The server paints a picture for each prompt, ``PUT /ID``: once, however often it is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from adapters.demo.git_server import git
from adapters.demo.plugin import page_of, wheel
from adapters.demo.server import Hosted

REPOSITORY = "painter.git"
MODELS = ("base.safetensors", "vae.safetensors", "lora.safetensors")
SLOW = MODELS[2]
"""The model that takes 8 s, so that there is time for a kill."""

BRUSH = 'def paint(text):\n    return f"a picture of {text}"\n'
SERVER = """\
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
while Path("../pictures").exists():  # a server that was left running ends when its folder is deleted
    server.handle_request()
"""


def painter_files() -> Iterator[tuple[str, Hosted]]:
    """The paths of its models, and those of an index that has its package."""
    for number, name in enumerate(MODELS):
        yield f"/models/{name}", Hosted(safetensors(2_000_000, number), rate=250_000.0 if name == SLOW else None)
    file = "brush-1.0-py3-none-any.whl"
    package = Hosted(wheel("brush", BRUSH), media="application/octet-stream")
    yield f"/wheels/{file}", package
    yield "/simple/brush/", page_of(file, package)


def make_painter(folder: Path, *, seconds: float) -> None:
    """Make its repository in *folder*; a picture takes *seconds*. FileNotFoundError if there is no git."""
    place = folder / REPOSITORY
    place.mkdir(parents=True)
    git(place, "init", "--quiet")
    (place / "server.py").write_text(SERVER.replace("SECONDS", str(seconds)), encoding="utf-8")
    (place / "requirements.txt").write_text("brush==1.0\n", encoding="utf-8")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message", "the painter")


def safetensors(size: int, byte: int = 0) -> bytes:
    """A model in the format of safetensors: its length, a head in JSON, *size* bytes that are all *byte*."""
    head = json.dumps({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes([byte]) * size
