"""What HTTP clients raise for an answer of the server."""

from __future__ import annotations

import httpx2


def answered(status: int, **headers: str) -> httpx2.HTTPStatusError:
    """What ``raise_for_status()`` raises; an underscore in a header's name stands for a hyphen."""
    request = httpx2.Request("GET", "http://host/")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx2.Response(status, request=request, headers=named)
    return httpx2.HTTPStatusError(f"{status}", request=request, response=response)
