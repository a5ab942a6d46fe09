"""Calls by host: the host and port of a call's URL, and the circuit that suits a host. Pure."""

from __future__ import annotations

import re
from functools import cache

from events.evidence import Category
from recovery.policies.breaker_policy import BreakerPolicy

HOST_BREAKER = BreakerPolicy(counts="attempts", categories=frozenset({Category.UNREACHABLE}))
"""For one circuit per host: five attempts in a row that do not reach the host open it, any other attempt resets it."""

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ftps": 990, "git": 9418, "ssh": 22, "sftp": 22}
"""The schemes of URLs that name a host, with their default ports."""

HOST = r"(?P<host>\[[0-9a-f:.]{2,45}\]|\w[\w.-]{0,252})"
URL = (
    rf"(?:[a-z]+\+)?(?P<scheme>{'|'.join(PORTS)})://(?:[^/?#\s\[\]]*@)?{HOST}(?::(?P<port>\d{{0,5}}))?(?=[/?#]|\Z)"
    r"|git@(?P<remote>\w[\w.-]{0,252}):[^\s]"
)
"""A URL, also as pip writes one (``git+https://``), or git's short form ``git@host:path`` of an ssh URL."""


def host_of(*args: object, **kwargs: object) -> str:
    """The host and port of the first URL among a call's arguments, as ``key=`` wants it; "" if there is none.

        host_of("https://user:secret@Example.org/model")  # "example.org:443"

    Positional arguments come first, then keywords in the order of the call. The port is always there, a user name or
    password never. A URL is a text (http, https, ws, wss, ftp, ftps, git, ssh, sftp, ``git+https``, ``git@host:path``)
    or an object of a class whose name ends in ``Url`` (httpx, yarl, pydantic). Lists are not looked into.

    Args:
        args: The positional arguments of the call.
        kwargs: Its keyword arguments.
    """
    for value in (*args, *kwargs.values()):
        text = value if isinstance(value, str) else _text_of(value)
        found = _url().match(text) if text else None
        if found is None:
            continue
        scheme, host, port, remote = found.group("scheme", "host", "port", "remote")
        if remote is not None:
            scheme, host = "ssh", remote
        return f"{host.rstrip('.').lower()}:{int(port) if port else PORTS[scheme.lower()]}"
    return ""


def without_port(key: str) -> str:
    """The host of a key of ``host_of``, as people write it: ``"example.org"``. Any other key comes back as it is."""
    host, _, port = key.rpartition(":")
    return host if port.isdecimal() and host else key


@cache
def _url() -> re.Pattern[str]:
    return re.compile(URL, re.IGNORECASE)  # when it is first needed: importing recovery stays light


def _text_of(value: object) -> str:
    try:
        return str(value) if type(value).__name__.lower().endswith("url") else ""
    except Exception:  # a foreign class: without a key, the call runs all the same
        return ""
