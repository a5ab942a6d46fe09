"""Which requests the page answers: the host that they name, what admits them, and where changes come from."""

from __future__ import annotations

import hmac
import inspect
import re
import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias
from urllib.parse import quote

import msgspec

from recovery import validation
from recovery.installation import extra

with extra("web"):
    from starlette.requests import Request

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine in its own browsers. A foreign name that leads here is an attack (DNS rebinding)."""

HOST = re.compile(r"\*|[A-Za-z0-9._-]+|\[[^][\s]+\]")
"""What an allowed host looks like: a name or an address, an IPv6 address in brackets, or any."""

LEAST_TOKEN = 16
"""Characters of a token."""


class Token(msgspec.Struct, frozen=True):
    """A secret that admits to the page: in its link, in a cookie that the link sets, or as a bearer.

    Args:
        value: The secret; 32 random bytes by default.

    Raises:
        ValueError: *value* has fewer than ``LEAST_TOKEN`` characters.
    """

    value: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(32))

    def __post_init__(self) -> None:
        if len(self.value) < LEAST_TOKEN:
            raise ValueError(f"a token has at least {LEAST_TOKEN} characters; Token() makes one")

    def __repr__(self) -> str:
        return "Token(***)"

    @property
    def cookie(self) -> str:
        """What the cookie holds: from it no one can make the link, or the bearer."""
        return hmac.new(self.value.encode(), b"cookie", "sha256").hexdigest()

    def is_value(self, given: str) -> bool:
        """Whether *given* is the token, in constant time."""
        return hmac.compare_digest(self.value.encode(), given.encode(errors="replace"))

    def is_cookie(self, given: str) -> bool:
        """Whether *given* is the cookie, in constant time."""
        return hmac.compare_digest(self.cookie.encode(), given.encode(errors="replace"))


Auth: TypeAlias = Token | Callable[[Request], bool | Awaitable[bool]] | None


class Access:
    """What a request may do.

    Args:
        auth: What admits: a ``Token``; or a function of the request that says whether it may see and change
            everything; None: every request sees, none changes.
        allowed_hosts: The host names that a browser may use for the page, without ports; "*" for any.
        is_read_only: Whether no request may change anything.

    Raises:
        TypeError: *auth* is nothing that admits, or *allowed_hosts* is one text.
        ValueError: An allowed host is no name.
    """

    def __init__(self, auth: Auth, allowed_hosts: Collection[str] = LOOPBACK, *, is_read_only: bool = False) -> None:
        if not (auth is None or isinstance(auth, Token) or callable(auth)):
            raise TypeError(f"auth must be a Token, a function of the request, or None, not {type(auth).__name__}")
        validation.flags({"is_read_only": is_read_only})
        if isinstance(allowed_hosts, str):
            raise TypeError(f"allowed_hosts must be a list of names, such as [{allowed_hosts!r}]")
        for host in allowed_hosts:
            if HOST.fullmatch(host) is None:
                cure = "give the name alone, such as launcher.example.org or [::1], or * for any"
                raise ValueError(f"an allowed host has no scheme, port or path, unlike {host!r}: {cure}")
        self._auth = auth
        self._hosts = frozenset(host.lower() for host in allowed_hosts)
        self.may_change = auth is not None and not is_read_only
        """Whether an admitted request may change anything."""

    def knows_host(self, request: Request) -> bool:
        """Whether the request names a host of this page."""
        hosts = request.headers.getlist("host")
        return len(hosts) == 1 and ("*" in self._hosts or _without_port(hosts[0]).lower() in self._hosts)

    async def admits(self, request: Request) -> bool:
        """Whether the request may see the page."""
        if self._auth is None:
            return True
        if isinstance(self._auth, Token):
            bearer = bearer_of(request)
            return self._auth.is_value(bearer) if bearer else any(map(self._auth.is_cookie, cookies_of(request)))
        answer = self._auth(request)
        return (await answer if inspect.isawaitable(answer) else answer) is True

    def token_in_link(self, request: Request) -> bool | None:
        """Whether the token in the address of the request is the right one; None if there is none."""
        given = request.query_params.get("token")
        return None if given is None or not isinstance(self._auth, Token) else self._auth.is_value(given)

    def cookie_for(self, request: Request) -> str:
        """The header that gives the browser its cookie."""
        assert isinstance(self._auth, Token)
        path = quote(request.scope.get("root_path", "").rstrip("/")) + "/"
        secure = "; Secure" if request.url.scheme == "https" else ""
        return f"{_cookie_name(request)}={self._auth.cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}"


def comes_from_page(request: Request) -> bool:
    """Whether a request that changes something comes from the page itself, or from a script with a bearer.

    A browser says with Origin which page sends a request. A script need not: a foreign page cannot send a bearer.
    """
    origins = request.headers.getlist("origin")
    if not origins:
        return bool(bearer_of(request))
    scheme, _, host = origins[0].lower().partition("://")
    return len(origins) == 1 and scheme in ("http", "https") and host == request.headers["host"].lower()


def bearer_of(request: Request) -> str:
    """The token of the header ``Authorization: Bearer``; "" without one."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def cookies_of(request: Request) -> list[str]:
    """The cookies of the page's name: a page that is mounted above this one, or another port, sets a further one."""
    name = _cookie_name(request)
    parts = (part.strip().partition("=") for line in request.headers.getlist("cookie") for part in line.split(";"))
    return [value for key, _, value in parts if key == name]


def _cookie_name(request: Request) -> str:
    """A name with the port: cookies do not tell the ports of a host apart, and two pages may be open."""
    port = request.headers["host"].rpartition(":")[2]
    return f"recovery-{port}" if port.isdecimal() else "recovery"


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
