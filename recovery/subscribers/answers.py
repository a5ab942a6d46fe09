"""The answer of a server, as the error of a client library holds it: HTTP status, code, and how long to wait.

Libraries are recognized by the attributes of their errors, not by importing them.
"""

from __future__ import annotations

import re
import time
from typing import Any  # for foreign objects

from events.errors import CallRejectedError, Retryable
from events.event import FOREVER
from recovery.policies.libraries import SQLSTATE, meaning_of_code
from recovery.policies.pacing import HEADERS, asked_to_wait, seconds_of
from recovery.subscribers.guarded_reading import (
    attribute_of,
    called,
    has_attribute,
    items_of,
    listed,
    plain_text,
    seconds,
    texts_of,
    value_at,
    whole_number,
)

MAX_RETRY_AFTER = 3600.0
"""The most seconds that a server may ask a call to wait; a launcher's user must not wait longer unnoticed."""

PLACES: tuple[tuple[str, ...], ...] = (
    ("response", "status_code"),  # httpx, httpx2, requests, openai, huggingface_hub, docker
    ("response", "status"),  # urllib3, minio
    ("response", "code"),  # tornado
    ("response", "ResponseMetadata", "HTTPStatusCode"),  # botocore
    ("resp", "status"),  # googleapiclient
    ("meta", "status"),  # elasticsearch
    ("status_code",),  # Starlette, FastAPI, azure
    ("http_status",),  # stripe
)
"""Where libraries keep the HTTP status of an answer. ``status`` and ``code`` alone may mean something else."""

CODES: tuple[tuple[str, ...], ...] = (
    ("grpc_status_code",),  # google.api_core, beside the HTTP status that it has chosen
    ("code",),  # grpc (a method), openai, minio
    ("status",),  # google.genai, grpclib
    ("response", "Error", "Code"),  # botocore
    ("sqlite_errorname",),
)
"""Where libraries keep codes of their own: a text, a member of an enumeration, or a method that returns one."""

READ = frozenset(
    {path[0] for path in PLACES + CODES}
    | {"after", "details", "doc", "headers", "pgcode", "pos", "retry_after", "sqlstate", "stderr", "trailing_metadata"}
)
"""The attributes of exceptions that are read here."""


def status_and_headers(error: BaseException) -> tuple[int | None, dict[str, str]]:
    """The HTTP status of the answer that *error* stands for, and those of its headers that are read."""
    own = attribute_of(error, "headers")
    held: list[Any] = [own]
    if (response := attribute_of(error, "response")) is not None:
        held += [value_at(response, "headers"), value_at(response, "ResponseMetadata", "HTTPHeaders")]
    held += [value_at(error, "meta", "headers"), attribute_of(error, "resp")]
    if callable(trailing := attribute_of(error, "trailing_metadata")):
        held.append(listed(called(trailing)))  # grpc
    headers: dict[str, str] = {}
    for one in held:
        headers = {**texts_of(one, HEADERS), **headers}
    for path in PLACES:
        status = whole_number(value_at(error, *path))
        if status is not None and 100 <= status <= 599:
            return status, headers
    for name in ("status", "code"):
        status = whole_number(attribute_of(error, name))
        if status is not None and _least_status(error, name, own) <= status <= 599:
            return status, headers
    return None, headers


def _least_status(error: BaseException, name: str, headers: Any) -> int:
    """The least number under *name* that is an HTTP status, not an exit status or the code of a parser.

    An error without headers has none below 400 (GitPython's exit statuses end at 255). A lone 400 is what aiohttp's
    parser gives for an answer that it cannot read; it counts where a class is made for it, as in werkzeug.
    """
    if headers is not None:
        return 100
    if attribute_of(error, "stderr") is not None:
        return 1000
    is_of_the_class = whole_number(attribute_of(type(error), name)) == 400
    return 400 if is_of_the_class or (name == "status" and not has_attribute(error, "headers")) else 401


def code_of(error: BaseException, status: int | None, headers: dict[str, str]) -> str | None:
    """The code of a library or a database, if its meaning is known; other texts may be secrets (OAuth codes)."""
    for path in CODES:
        value = value_at(error, *path)
        if path == ("code",):
            value = called(value)
        if value is None or issubclass(type(value), int):
            continue
        name = plain_text(value) or plain_text(attribute_of(value, "name"))
        if name is not None and meaning_of_code(name) is not None:
            return name
    for attribute in ("sqlstate", "pgcode"):  # psycopg, asyncpg, mysql.connector; psycopg2
        state = plain_text(attribute_of(error, attribute))
        if state is not None and re.fullmatch("[0-9A-Z]{5}", state):
            return SQLSTATE + state
    should_retry = headers.get("x-should-retry", "").strip().lower()  # openai, anthropic
    if should_retry == "false":
        return "should-not-retry"
    if should_retry == "true" and status != 429:
        return "should-retry"
    return "cut-off" if _is_cut_off(error) else None


def _is_cut_off(error: BaseException) -> bool:
    """Whether *error* says that a JSON text ended too early: what a transfer leaves that was cut."""
    doc, position = attribute_of(error, "doc"), whole_number(attribute_of(error, "pos"))
    if type(doc) not in (str, bytes) or not doc or position is None:
        return False
    return position >= len(doc.rstrip()) or (plain_text(attribute_of(error, "msg")) or "").startswith("Unterminated")


def wait_of(error: BaseException, status: int | None, headers: dict[str, str]) -> float | None:
    """Seconds to wait that user code, a server or its library asks for."""
    if issubclass(type(error), Retryable):
        return seconds(attribute_of(error, "after"), most=FOREVER)
    if issubclass(type(error), CallRejectedError):
        return seconds(attribute_of(error, "retry_after"), most=FOREVER)
    now = time.time()
    asked = asked_to_wait(headers, status, now)
    if asked is None:
        asked = seconds(attribute_of(error, "retry_after"), most=MAX_RETRY_AFTER, now=now)  # werkzeug, discord
    if asked is None:
        details = attribute_of(error, "details")  # google's RetryInfo: of google.api_core, or in JSON
        for detail in items_of(details) + items_of(value_at(details, "error", "details")):
            asked = seconds_of(plain_text(value_at(detail, "retryDelay")) or "", now)
            if asked is None and (whole := whole_number(value_at(detail, "retry_delay", "seconds"))) is not None:
                asked = whole + (whole_number(value_at(detail, "retry_delay", "nanos")) or 0) / 1e9
            if asked is not None:
                break
    return seconds(asked, most=MAX_RETRY_AFTER)
