"""What the system and a connection cannot take, of a path and of a URL: found before anything begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recovery.installation import extra

with extra("launcher"):
    import httpx2

LONGEST_NAME = 255
"""Bytes of a file's name that Linux and macOS take."""
LONGEST_PATH = 4095
"""Bytes of a path that Linux takes."""


def too_long(place: Path, files: Sequence[Path]) -> str | None:
    """Why the system cannot make *place*, or those *files* beside it that a download makes first."""
    if max(len(os.fsencode(part)) for part in place.parts) > LONGEST_NAME:
        return f"has a name that is too long: a file or folder has at most {LONGEST_NAME} bytes"
    added = max(len(os.fsencode(file)) for file in files) - len(os.fsencode(place))
    if len(os.fsencode(place)) + added > LONGEST_PATH:
        return f"is too long: with the root, at most {LONGEST_PATH - added} bytes"
    return None


def wrong_url(text: str) -> str | None:
    """Why no file can be downloaded from *text*."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError) as error:
        return f"is no URL: {error}"
    if url.scheme not in ("http", "https") or not url.host:
        return "is no http or https URL"
    if not all(0 < len(label) < 64 for label in url.raw_host.rstrip(b".").split(b".")):
        return "has a host that is no name"
    if url.port is not None and not 0 < url.port < 65536:
        return f"has the port {url.port}, and ports are 1 to 65535"
    return None
