"""What the system and a connection cannot take, of a path, a URL and a variable: found before anything begins."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from adapters.downloads.families import HOSTS, family_of
from adapters.downloads.sources import url_of
from recovery.explain import counted
from recovery.installation import extra
from recovery.redact import redact
from recovery.suggestions import hint

with extra("launcher"):
    import httpx2

LONGEST_NAME = 255
"""Bytes of a file's name that Linux and macOS take."""
LONGEST_PATH = 4095
"""Bytes of a path that Linux takes."""
TAKEN = "has a name as the partial files of downloads have it; choose another one"
"""Why nothing is downloaded to ``x.part``: a download to ``x`` would overwrite it."""


def too_long(place: Path, files: Sequence[Path]) -> str | None:
    """Why the system cannot make *place*, or those *files* beside it that a download makes first."""
    longest = max(len(os.fsencode(part)) for part in place.parts)
    beside = max(len(os.fsencode(file.name)) for file in files) - len(os.fsencode(place.name))
    if longest <= LONGEST_NAME < len(os.fsencode(place.name)) + beside:
        return f"has a name that is too long: at most {LONGEST_NAME - beside} bytes, for what is made beside it first"
    if longest > LONGEST_NAME:
        return f"has a name that is too long: a file or folder has at most {LONGEST_NAME} bytes"
    added = max(len(os.fsencode(file)) for file in files) - len(os.fsencode(place))
    if len(os.fsencode(place)) + added > LONGEST_PATH:
        return f"is too long: with the root, at most {LONGEST_PATH - added} bytes"
    return None


def wrong_url(text: str) -> str | None:
    """Why no file can be downloaded from *text*."""
    try:
        plain = url_of(text)
    except ValueError as error:
        return f"is no file of a hub: {str(error).removeprefix(f'{text}: ')}"
    try:
        url = httpx2.URL(plain)
    except (httpx2.InvalidURL, ValueError) as error:
        return f"is no URL: {error}"
    if url.scheme not in ("http", "https") or not url.host:
        return "is no http or https URL"
    if not all(0 < len(label) < 64 for label in url.raw_host.rstrip(b".").split(b".")):
        return "has a host that is no name"
    if url.port is not None and not 0 < url.port < 65536:
        return f"has the port {url.port}, and ports are 1 to 65535"
    return None


def wrong_ready_url(text: str) -> str | None:
    """Why no server can be asked at *text*, with ``{port}`` for its port, whether it is ready."""
    if not text.lower().startswith(("http://", "https://")):
        return "is no http or https URL"
    if (reason := wrong_url(url := text.replace("{port}", "65535"))) is not None:
        return reason
    return "has a user name or a password, which would be shown, and is not sent" if httpx2.URL(url).userinfo else None


def wrong_family(key: str) -> str | None:
    """Why *key* stands for no hosts that take a token."""
    found = family_of(f"https://{key}")
    is_host = found in HOSTS or {".", ":"} & set(found) or found == "localhost"
    if key in HOSTS or (is_host and not {"/", "@"} & set(key)):
        return None
    return f"there is no such family of hosts, and it is no host; {hint(key, tuple(HOSTS))}"


def wrong_reference(text: str) -> str | None:
    """Why *text* names no environment variable that holds a secret. The text is not shown: it may be the secret."""
    if re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", text) and redact(text) == text:
        return None
    return (
        f'must be "env:NAME", the variable that holds it, as a plan is no place for a secret; what was given '
        f"({counted(len(text), 'character')}) is not that"
    )


def wrong_secret(text: str) -> str | None:
    """As ``wrong_reference``; ``file:PATH`` names a file that holds the secret."""
    is_file = text.startswith("file:") and len(text) > len("file:") and redact(text) == text
    reason = None if is_file else wrong_reference(text)
    return reason and reason.replace(", the variable that", ' or "file:PATH", the variable or the file that')


def wrong_variable(name: str, value: str) -> str | None:
    """Why a plan may not set the variable *name* to *value*. The value is not shown if it may be a secret."""
    if not name or "=" in name or "\0" in name + value:
        return "is no name of a variable, or has a null character, which no system passes on"
    if redact(said := f"{name}={value}") != said:
        return (
            f"looks like a secret, and a plan is no place for one: set the variable where the launcher is started, "
            f'and write {name} = "env:{name}"'
        )
    return None


def wrong_package(name: object) -> str | None:
    """Why *name* is no name of a package of Python; ``None`` if it is."""
    if isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return None
    return f"{name!r} is no name of a package: give the name alone, without a version, as 'torch'"
