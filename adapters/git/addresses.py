"""Where a repository is: URLs of https, http, ssh and git, ``user@host:path``, and paths of this computer. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from recovery.redact import redact

PROTOCOLS = ("https", "http", "ssh", "git")
"""Protocols that git may speak; ``file`` besides for a path, and never ``ext``, which runs a program."""

DRIVE = re.compile(r"[A-Za-z]:[\\/]")
"""How a path of Windows begins."""


def origin_of(url: str) -> str:
    """Scheme, host and port of *url*, as git's settings name them; "" for what is no URL of HTTP."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_path(url: str) -> bool:
    """Whether *url* leads to a repository on this computer: a path, or ``file://``."""
    return url.startswith("file://") or ":" not in url.partition("/")[0]


def wrong_url(url: object) -> str | None:
    """Why git must not be given *url*; ``None`` if it may: https, http, ssh, git, ``user@host:path``, or a path."""
    if not isinstance(url, str) or not url:
        return "is no text" if not isinstance(url, str) else "is empty"
    if url.startswith("-"):
        return "begins with -, and git would take it for an option"
    if any(ord(one) < 32 or one == "\x7f" for one in url):
        return "has a control character"
    if "::" in url.partition("/")[0]:
        return "names a helper program (helper::address), which is not run"
    if is_path(url) and not (url.startswith("file://") or Path(url).is_absolute()):
        return "is a relative path: give a URL with its scheme (https://...), or an absolute path"
    scheme, mark, rest = url.partition("://")
    if mark and scheme not in (*PROTOCOLS, "file"):
        return f"has the scheme {scheme}; git may use https, http, ssh, git or a path"
    host = rest.partition("/")[0] if mark else "" if is_path(url) else url.partition(":")[0]
    if host.rpartition("@")[2].startswith("-") or host.startswith("-"):
        return "has a host that begins with -, and ssh would take it for an option"
    if mark and scheme != "file" and not host:
        return "has no host"
    try:
        url.encode()
        _ = urlsplit(url).port if mark else None
        if mark and _has_secret(url):
            return (
                "holds a password or token, which would stand in the journal and in .git/config: give the URL without "
                "it, and the token of its host by tokens=, if need be as user:password"
            )
    except UnicodeEncodeError:
        return "is no text of Unicode, and cannot be journalled"
    except ValueError as error:
        return f"is no URL: {error}"
    return None


def _has_secret(url: str) -> bool:
    parts = urlsplit(url)
    return parts.password is not None or any(redact(one) != one for one in (parts.username or "", parts.query))


def given_to_git(url: str) -> str:
    """*url* as git gets it: a path as ``file://``, or git would take no notice of a depth, and link files to it."""
    return Path(url).absolute().as_uri() if is_path(url) and not url.startswith("file://") else url


def shown(url: str) -> str:
    """*url* for a message: without user, password and query."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def is_same(one: str, other: str) -> bool:
    """Whether two URLs lead to one repository: whatever the protocol, the user, and ``.git`` at the end."""
    return _identity(one) == _identity(other)


def _identity(url: str) -> tuple[str, str]:
    if is_path(url):
        path = unquote(urlsplit(url).path) if url.startswith("file://") else str(Path(url).absolute())
        return "", _path(path)
    if "://" not in url:
        host, _, path = url.partition(":")
        return host.rpartition("@")[2].lower(), _path(path)
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2].lower(), _path(unquote(parts.path))


def _path(text: str) -> str:
    return text.strip("/").removesuffix(".git").rstrip("/")
