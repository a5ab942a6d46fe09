"""A real package index on loopback: simple pages in HTML and JSON, tiny wheels and sdists, and the faults of real ones.

with Index() as index:
    index.add("app", "1.0", requires=["library>=2"])
    index.add("library", "2.0")
    index.faults["library-2.0-py3-none-any.whl"] = Fault(cut=100, is_reset=True, times=1)
    subprocess.run([python, "-m", "pip", "install", "--index-url", index.url, "app"], env={**os.environ, **ALONE})
    assert "/simple/library/" in index.requests
"""

from __future__ import annotations

import hashlib
import io
import re
import socket
import struct
import tarfile
import threading
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from typing import Any, Literal, Self

import msgspec

ALONE = {
    "PIP_CONFIG_FILE": "/dev/null",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "",
    "PIP_NO_CACHE_DIR": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "UV_NO_CONFIG": "1",
    "UV_NO_CACHE": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "NO_PROXY": "127.0.0.1",
}
"""Variables with which pip and uv see no settings, caches and proxies of this machine."""

JSON = "application/vnd.pypi.simple.v1+json"

Kind = Literal["wheel", "sdist", "broken sdist"]

BACKEND = """
import base64, hashlib, os, sys, zipfile

NAME, VERSION, METADATA, IS_BROKEN = {name!r}, {version!r}, {metadata!r}, {is_broken!r}
INFO = f"{{NAME}}-{{VERSION}}.dist-info"
FILES = {{
    f"{{NAME}}/__init__.py": f"__version__ = {{VERSION!r}}\\n",
    f"{{INFO}}/METADATA": METADATA,
    f"{{INFO}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    f"{{INFO}}/RECORD": "",
}}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    if IS_BROKEN:
        print("error: command 'gcc' failed: No such file or directory", file=sys.stderr)
        sys.exit(1)
    name = f"{{NAME}}-{{VERSION}}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as file:
        for path, text in FILES.items():
            file.writestr(path, text)
    return name

def build_sdist(folder, config_settings=None):
    raise NotImplementedError
"""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with the answer to a request.

    Args:
        status: The answer is this one; 0 for the right one.
        headers: Headers of that answer, e.g. ``Retry-After``.
        cut: The body ends after so many bytes.
        is_reset: Where it ends, the connection is reset; otherwise it is closed.
        rate: Bytes a second.
        is_silent: There is no answer, or with *cut* nothing after these bytes, until the client goes away.
        times: So many requests have the fault; None for all.
    """

    status: int = 0
    headers: Mapping[str, str] = {}
    cut: int | None = None
    is_reset: bool = False
    rate: float | None = None
    is_silent: bool = False
    times: int | None = None


class _File(msgspec.Struct, frozen=True):
    content: bytes
    sha256: str
    requires_python: str


class Index:
    """The index at *url*; a context manager. It may be changed while it runs.

    Attributes:
        url: What ``--index-url`` is given.
        faults: By the name of a project (its page), of a file, or ``*`` (everything else).
        requests: The paths that were asked for, in that order.
    """

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.requests: list[str] = []
        self._files: dict[str, dict[str, _File]] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple/"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        name: str,
        version: str,
        *,
        requires: Sequence[str] = (),
        requires_python: str = "",
        kind: Kind = "wheel",
        sha256: str = "",
        size: int = 0,
        files: Mapping[str, str] = {},
    ) -> str:
        """Offer a package; the module of its name has its ``__version__``. Returns the name of the file.

        Args:
            name: Its name.
            version: Its version.
            requires: What it needs.
            requires_python: The versions of Python that it is for; "" for all.
            kind: A wheel, an sdist that builds without any other package, or one whose build fails.
            sha256: The hash that its page promises; "" for the right one.
            size: A wheel has at least so many bytes.
            files: Further files of a wheel, by their paths.
        """
        fields = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
        fields += [f"Requires-Python: {requires_python}\n"] if requires_python else []
        fields += [f"Requires-Dist: {one}\n" for one in requires]
        module, metadata = re.sub(r"[-_.]+", "_", name).lower(), "".join(fields)
        if kind == "wheel":
            file = f"{module}-{version}-py3-none-any.whl"
            content = _wheel(module, version, metadata, size, files)
        else:
            file = f"{module}-{version}.tar.gz"
            content = _sdist(module, version, metadata, is_broken=kind == "broken sdist")
        return self.add_file(name, file, content, sha256=sha256, requires_python=requires_python)

    def add_installed(self, name: str) -> str:
        """Offer the package *name* as it is installed here, pip for example. Returns the name of the file."""
        installed = distribution(name)
        files = {str(one): one for one in installed.files or () if ".." not in one.parts and one.suffix != ".pyc"}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for path, one in files.items():
                archive.write(str(one.locate()), path)
        return self.add_file(name, f"{name}-{installed.version}-py3-none-any.whl", buffer.getvalue())

    def add_file(self, project: str, file: str, content: bytes, *, sha256: str = "", requires_python: str = "") -> str:
        """Offer *content* as the file of that name. Returns the name."""
        promised = sha256 or hashlib.sha256(content).hexdigest()
        page = re.sub(r"[-_.]+", "-", project).lower()
        self._files.setdefault(page, {})[file] = _File(content, promised, requires_python)
        return file

    def remove(self, project: str, file: str) -> None:
        """Offer the file no longer."""
        del self._files[project][file]

    def asked(self, part: str) -> int:
        """How many requests there were whose path has *part*."""
        return sum(part in one for one in self.requests)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request, or do what its fault says."""
        last = handler.path.rstrip("/").rpartition("/")[2]
        with self._lock:
            self.requests.append(handler.path)
            fault = self._fault(last)
        if fault.is_silent and fault.cut is None:
            handler.close_connection = True
            self._is_over.wait()
            return
        if fault.status:
            self._send(handler, fault.status, b"no\n", "text/plain", fault)
        elif handler.path == f"/simple/{last}/" and last in self._files:
            self._send(handler, 200, *self._page(last, is_json=JSON in handler.headers.get("Accept", "")), fault)
        elif handler.path.startswith("/files/") and (file := self._file(last)) is not None:
            self._send(handler, 200, file.content, "application/octet-stream", fault)
        else:
            self._send(handler, 404, b"not found\n", "text/plain", fault)

    def _fault(self, name: str) -> Fault:
        name = name if name in self.faults else "*"
        fault = self.faults.get(name, Fault())
        if fault.times is not None:
            self.faults[name] = msgspec.structs.replace(fault, times=fault.times - 1)
            if fault.times <= 1:
                del self.faults[name]
        return fault

    def _file(self, name: str) -> _File | None:
        return next((files[name] for files in self._files.values() if name in files), None)

    def _page(self, project: str, *, is_json: bool) -> tuple[bytes, str]:
        files = self._files[project]
        if is_json:
            entries = [
                {"filename": name, "url": f"/files/{name}", "hashes": {"sha256": one.sha256}}
                | ({"requires-python": one.requires_python} if one.requires_python else {})
                for name, one in files.items()
            ]
            return msgspec.json.encode({"meta": {"api-version": "1.0"}, "name": project, "files": entries}), JSON
        lines = []
        for name, one in files.items():
            limit = one.requires_python.replace("<", "&lt;").replace(">", "&gt;")
            limit = f' data-requires-python="{limit}"' if limit else ""
            lines.append(f'<a href="/files/{name}#sha256={one.sha256}"{limit}>{name}</a><br>\n')
        return f"<!DOCTYPE html><html><body>\n{''.join(lines)}</body></html>\n".encode(), "text/html"

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, fault: Fault) -> None:
        start, end = 0, len(body)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", handler.headers.get("Range", ""))
        if status == 200 and asked and any(asked.groups()):
            first, final = asked.groups()
            start = int(first) if first else max(end - int(final), 0)
            end = min(int(final) + 1, end) if first and final else end
            status = 206 if start < len(body) else 416
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(max(end - start, 0)))
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()[:16]}"')
        if status == 206:
            handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        for name, value in fault.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        sent = body[start:end] if fault.cut is None else body[start : min(end, start + fault.cut)]
        step = len(sent) or 1 if fault.rate is None else max(int(fault.rate / 20), 1)
        for at in range(0, len(sent), step):
            handler.wfile.write(sent[at : at + step])
            if fault.rate is not None and self._is_over.wait(step / fault.rate):
                break
        if fault.cut is not None:
            handler.close_connection = True
            if fault.is_silent:
                handler.wfile.flush()
                self._is_over.wait()
            if fault.is_reset:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()


def refused_url() -> str:
    """The URL of an index that refuses every connection."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/simple/"


def _wheel(module: str, version: str, metadata: str, size: int, files: Mapping[str, str]) -> bytes:
    info = f"{module}-{version}.dist-info"
    contents = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: index\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if size:
        contents[f"{module}/data.txt"] = "x" * size
    lines = [f"{info}/RECORD,,\n"]
    for path, text in contents.items():
        digest = urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text.encode())}\n")
    contents[f"{info}/RECORD"] = "".join(lines)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path), text)  # without a date: the same bytes each time
    return buffer.getvalue()


def _sdist(module: str, version: str, metadata: str, *, is_broken: bool) -> bytes:
    folder = f"{module}-{version}"
    contents = {
        "PKG-INFO": metadata,
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(name=module, version=version, metadata=metadata, is_broken=is_broken),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in contents.items():
            entry = tarfile.TarInfo(f"{folder}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, index: Index) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                index.answer(self)

            def do_HEAD(self) -> None:
                index.answer(self)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that go away or are killed."""
