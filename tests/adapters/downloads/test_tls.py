"""A connection whose TLS breaks off in the middle, as by a VPN that changes its keys."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import httpx2
import pytest

from adapters.downloads import download
from adapters.downloads.mirrors import is_failover
from recovery import classify
from tests.adapters.downloads.targets import CONTENT, HALF

SIZE = len(CONTENT)
BAD_RECORD = b"\x17\x03\x03\x00\x40" + bytes(64)


def context(*, of_client: bool = False) -> ssl.SSLContext:
    """TLS without certificates."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if of_client else ssl.PROTOCOL_TLS_SERVER)
    if of_client:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    made.maximum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("aNULL:@SECLEVEL=0")
    return made


def serve(listener: socket.socket) -> None:
    """Break off the first response half-way, and give the rest in the second."""
    tls = context()
    head = 'HTTP/1.1 {}\r\nETag: "x"\r\nConnection: close\r\nContent-Length: {}\r\n'
    with tls.wrap_socket(listener.accept()[0], server_side=True) as first:
        first.recv(65536)
        first.sendall(head.format("200 OK", SIZE).encode() + b"\r\n" + CONTENT[:HALF])
        with socket.socket(fileno=first.detach()) as raw:
            raw.sendall(BAD_RECORD)
            raw.recv(65536)  # until the client has closed
    with tls.wrap_socket(listener.accept()[0], server_side=True) as second:
        second.recv(65536)
        content_range = f"Content-Range: bytes {HALF}-{SIZE - 1}/{SIZE}\r\n\r\n"
        second.sendall((head.format("206 Partial Content", SIZE - HALF) + content_range).encode() + CONTENT[HALF:])


@pytest.mark.anyio
async def test_when_tls_breaks_off_in_the_middle_the_next_attempt_or_a_mirror_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url, place = f"https://127.0.0.1:{listener.getsockname()[1]}/model.bin", tmp_path / "model.bin"
        async with httpx2.AsyncClient(verify=context(of_client=True), timeout=5.0) as client:
            with pytest.raises(httpx2.ReadError) as raised:
                await download(client, url, place)
            assert is_failover(raised.value)
            assert classify(raised.value).category == "transient"
            arrived = await download(client, url, place)
    assert (arrived.start, place.read_bytes()) == (HALF, CONTENT)
