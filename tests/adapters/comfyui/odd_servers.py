"""A server of a test that answers what the test says, in the loop of the test."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple, TypeAlias

import anyio
import pytest
from anyio.abc import AnyByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

CUT = b""
"""An answer: the connection ends without one."""
SILENCE = None
"""An answer: none, and the connection stays."""


class Asked(NamedTuple):
    """A request."""

    line: str
    head: str
    body: bytes


Answerer: TypeAlias = Callable[[Asked], bytes | None]


class OddServer:
    """See ``odd_server``. ``asked``: the requests that came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [one.line for one in self.asked]


def answer(status: int, body: object = None, **headers: str) -> bytes:
    """An answer with a body of JSON, or one of bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@asynccontextmanager
async def odd_server(answers: bytes | Answerer | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[OddServer]:
    """Answer each request with *answers*, or with what it returns for the request."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    server = OddServer(listener.extra(SocketAttribute.local_port))

    async def serve(raw: SocketStream) -> None:
        async with raw:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):  # it does not want to speak so
                await speak(raw if tls is None else await TLSStream.wrap(raw, server_side=True, ssl_context=tls))

    async def speak(stream: AnyByteStream) -> None:
        async with stream:
            request = await _request(stream)
            if request is None:
                return
            server.asked.append(request)
            said = answers(request) if callable(answers) else answers
            if said is SILENCE:
                await anyio.sleep_forever()
            elif said:
                await stream.send(said)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield server
        tasks.cancel_scope.cancel()


async def _request(stream: AnyByteStream) -> Asked | None:
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        line, _, rest = head.decode().partition("\r\n")
        length = next((int(one[15:]) for one in rest.lower().split("\r\n") if one.startswith("content-length:")), 0)
        while len(body) < length:
            body += await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return None
    return Asked(line, rest, body)


def own_certificate() -> ssl.SSLContext:
    """Of a server that has signed its certificate itself."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl")
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = f"{folder}/key.pem", f"{folder}/certificate.pem"
        kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=comfy"]
        command = [openssl, "req", *kind, "-keyout", key, "-out", certificate]
        subprocess.run(command, check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    return context
