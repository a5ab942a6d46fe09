"""The plug-in of the demonstration: a repository with a server, what asks it, and the packages that both need."""

from __future__ import annotations

import io
import random
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from adapters.demo.git_server import git
from adapters.demo.server import Answer, Hosted, Reset

PROMPTS = 24
LARGE = "demo_tensors"
"""The package whose first transfer breaks off."""

SERVER = """\
import http.server, os, pathlib, sys, time
import demo_sampler

with open("starts.log", "a") as file:
    print(os.getpid(), file=file)
if len(pathlib.Path("starts.log").read_text().split()) == 1:
    sys.exit("CUDA out of memory (the first start of this server always ends like this)")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/prompt/"):
            time.sleep(0.25)
            with open("prompts.log", "a") as file:
                print(self.path.removeprefix("/prompt/"), file=file)
        body = demo_sampler.sample(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

ASKS = f"""\
import os, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
for number in range({PROMPTS}):
    opener.open(f"{{os.environ['SERVER']}}/prompt/{{number}}", timeout=10).read()
open("prompts.done", "w").close()
"""

FILES = {
    "server.py": SERVER,
    "prompts.py": ASKS,
    "requirements.txt": "demo-sampler>=1\n",
    "settings.ini": "steps = 20\n",
    "settings.new": "steps = 4\n",
}


def make_repository(folder: Path) -> str:
    """Make the repository ``plugin.git`` in *folder*; its commit."""
    work = folder / "plugin"
    work.mkdir(parents=True)
    git(work, "init", "--quiet")
    for name, text in FILES.items():
        (work / name).write_text(text)
    (work / "weights.bin").write_bytes(random.Random("weights").randbytes(400_000))
    git(work, "add", "--all")
    git(work, "commit", "--quiet", "--message", "a plug-in")
    git(folder, "clone", "--quiet", "--bare", "plugin", "plugin.git")
    return git(work, "rev-parse", "HEAD")


def index_files() -> Iterator[tuple[str, Hosted]]:
    """The paths of two package indexes: ``/refusing/`` answers 403, and ``/simple/`` has the packages."""
    weights = random.Random("package").randbytes(2_000_000)
    packages = (
        ("demo_sampler", "from demo_tensors import shape\n\ndef sample(text):\n    return shape(text)\n", b"",
         ("demo-tensors>=1",)),
        (LARGE, "def shape(text):\n    return f'{len(text)} tokens'\n", weights, ()),
    )  # fmt: skip
    for name, code, data, requires in packages:
        file = f"{name}-1.0-py3-none-any.whl"
        package = Hosted(wheel(name, code, data, requires), rate=2_000_000, media="application/octet-stream")
        if data:
            package.faults.append(Reset(0.4))
        path = name.replace("_", "-")
        yield f"/wheels/{file}", package
        yield f"/simple/{path}/", page_of(file, package)
        yield f"/refusing/{path}/", Hosted(b"", faults=[Answer(403)] * 99)


def page_of(file: str, package: Hosted) -> Hosted:
    """The page of an index with the one *file* of a *package*."""
    link = f'<a href="/wheels/{file}#sha256={package.sha256}">{file}</a>'
    return Hosted(f"<!DOCTYPE html><html><body>{link}</body></html>".encode(), media="text/html")


def wheel(name: str, code: str, data: bytes = b"", requires: tuple[str, ...] = ()) -> bytes:
    """The wheel of version 1.0 of a package with this *code*, *data* in a file of it, and what it *requires*."""
    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files = {
        f"{name}/__init__.py": code.encode(),
        f"{name}/data.bin": data,
        f"{info}/METADATA": (metadata + "".join(f"Requires-Dist: {one}\n" for one in requires)).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: demo\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={urlsafe_b64encode(sha256(body).digest()).decode().rstrip('=')},{len(body)}\n"
        for path, body in files.items()
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for path, body in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            file.writestr(path, body)
    return out.getvalue()
