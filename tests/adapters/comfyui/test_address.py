"""The address of a ComfyUI server: what is connected to, and what is shown."""

from __future__ import annotations

import base64

import pytest

from adapters.comfyui.address import Address
from adapters.comfyui.client import Client
from adapters.comfyui.feed import Feed


@pytest.mark.parametrize(
    ("url", "host", "port", "history", "messages"),
    [
        (
            "http://localhost:8188",
            "localhost",
            8188,
            "http://localhost:8188/history",
            "ws://localhost:8188/ws?clientId=c",
        ),
        ("http://host/", "host", 80, "http://host/history", "ws://host/ws?clientId=c"),
        ("https://host/comfy/", "host", 443, "https://host/comfy/history", "wss://host/comfy/ws?clientId=c"),
        ("http://[::1]:9/a/b", "::1", 9, "http://[::1]:9/a/b/history", "ws://[::1]:9/a/b/ws?clientId=c"),
    ],
)
def test_a_url_says_where_to_connect(url: str, host: str, port: int, history: str, messages: str) -> None:
    address = Address.of(url)
    assert (address.host, address.port) == (host, port)
    assert address.url("/history") == history
    assert address.websocket("c") == messages


def test_credentials_are_in_the_headers_alone() -> None:
    address = Address.of("https://me:p%40ss@host:1/comfy")
    words = base64.b64encode(b"me:p@ss").decode()
    assert address.headers == {"Authorization": f"Basic {words}"}
    for text in (address.shown, address.url("/queue"), address.websocket("c"), repr(address), str(address)):
        assert words not in text
        assert "p%40ss" not in text
        assert "p@ss" not in text


def test_a_query_is_quoted() -> None:
    assert Address.of("http://h").url("/view", filename="a b&c.png") == "http://h/view?filename=a%20b%26c.png"


def test_this_machine_is_known() -> None:
    for host, is_here in {
        "127.0.0.9": True,
        "[::1]": True,
        "localhost": True,
        "10.0.0.1": False,
        "host": False,
    }.items():
        assert Address.of(f"http://{host}").is_loopback is is_here


@pytest.mark.parametrize("kind", [Address.of, Client, Feed])
@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "ftp://secret@host",
        "http://",
        "http://:secret@",
        "http://host:secret",
        "http://host:99999/secret",
        "http://[secret",
        "http://host/?token=secret",
        "http://host/#secret",
        "http://host\r\nsecret: 1",
        "http://ho st/secret",
    ],
)
def test_what_names_no_server_is_refused_without_its_text(kind: type, url: str) -> None:
    with pytest.raises(ValueError, match="the URL of ComfyUI") as raised:
        kind(url)
    assert "secret" not in str(raised.value)
