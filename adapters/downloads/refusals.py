"""What a refused download means, read from the status, the headers and the body of its response. Pure."""

from __future__ import annotations

from collections.abc import Mapping

MOST_BODY = 64 * 1024
"""Bytes of a refusal that are read."""


def refused(status: int, headers: Mapping[str, str], body: bytes, *, url: str, asked: str) -> Exception | None:
    """A better error than the bare status; None where the response does not tell more.

    Args:
        status: Neither 200, 206 nor 416; of a redirect to a login page, that of the redirect.
        headers: By name in lower case.
        body: At most its first ``MOST_BODY`` bytes.
        url: What gave the response, after redirects; the login page of a redirect to one.
        asked: What was asked for, before redirects.
    """
    return None


def is_login(url: str) -> bool:
    """Whether a redirect to *url* leads to a login page."""
    return False
