"""The address of a ComfyUI server: where to connect, what to ask for, and what may be shown. Pure."""

from __future__ import annotations

import base64
from ipaddress import ip_address
from typing import NamedTuple, Self
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """An address without its credentials: those are in *headers* alone.

    Args:
        shown: The URL without credentials and without a slash at its end.
        is_tls: Whether it begins with ``https``.
        host: A name or an IP address.
        port: The port, also where the URL does not name it.
        prefix: The path before each path of the server, as "/comfy"; "" for none.
        headers: What each request is sent with: the ``Authorization`` of a URL with credentials.
    """

    shown: str
    is_tls: bool
    host: str
    port: int
    prefix: str
    headers: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Self:
        """Read *url*. Raises ValueError, without its text, for one that names no server."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # its words hold the text
            raise ValueError("the URL of ComfyUI cannot be read") from None
        if parts.scheme not in PORTS or not host or not url.isprintable() or " " in url:
            raise ValueError("the URL of ComfyUI is not http://HOST:PORT or https://HOST:PORT")
        if parts.query or parts.fragment:
            raise ValueError("the URL of ComfyUI has a part after ? or #: leave it out")
        _, _, where = parts.netloc.rpartition("@")
        prefix = parts.path.rstrip("/")
        shown = f"{parts.scheme}://{where}{prefix}"
        is_tls = parts.scheme == "https"
        return cls(shown, is_tls, host, port or PORTS[parts.scheme], prefix, _headers(parts))

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def is_loopback(self) -> bool:
        """Whether it names this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def url(self, path: str, **query: str) -> str:
        """The URL of *path*, which begins with a slash."""
        asked = "?" + urlencode(query, quote_via=quote) if query else ""
        return f"{self.shown}{path}{asked}"

    def websocket(self, client_id: str) -> str:
        """The URL of the messages for *client_id*."""
        scheme, _, rest = self.shown.partition("://")
        return f"{'wss' if scheme == 'https' else 'ws'}://{rest}/ws?clientId={client_id}"


def _headers(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}
