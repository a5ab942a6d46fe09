"""What a framework's own HTTP errors mean where a handler, or a call inside it, is recoverable."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import fastapi
import flask
import pytest
import starlette.exceptions
import werkzeug.exceptions

from events.evidence import Category
from recovery import classify


def aborted(status: Any, **given: Any) -> Exception:
    try:
        flask.abort(status, **given)
    except werkzeug.exceptions.HTTPException as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("make", [starlette.exceptions.HTTPException, fastapi.HTTPException, aborted])
@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.PERMANENT),
        (401, Category.AUTH),
        (404, Category.PERMANENT),
        (408, Category.TRANSIENT),
        (429, Category.RATE_LIMITED),
        (500, Category.TRANSIENT),
        (503, Category.TRANSIENT),
    ],
)
def test_a_status_decides(make: Any, status: int, category: Category) -> None:
    assert classify(make(status)).category is category


@pytest.mark.parametrize("kind", [starlette.exceptions.HTTPException, fastapi.HTTPException])
def test_a_retry_after_among_the_headers_is_kept_to(kind: Any) -> None:
    assert classify(kind(429, headers={"Retry-After": "7"})).retry_after == 7.0


def test_a_retry_after_of_werkzeug_is_kept_to() -> None:
    assert classify(aborted(429, retry_after=7)).retry_after == 7.0
    asked = classify(aborted(503, retry_after=datetime.now(UTC) + timedelta(seconds=60))).retry_after
    assert asked == pytest.approx(60.0, abs=5.0)


def test_an_answer_that_is_raised_counts_by_its_status_and_headers() -> None:
    judged = classify(aborted(flask.Response(status=429, headers={"Retry-After": "7"})))
    assert (judged.category, judged.retry_after) == (Category.RATE_LIMITED, 7.0)


def test_the_code_of_a_closed_websocket_is_no_status() -> None:
    assert classify(starlette.exceptions.WebSocketException(1008)).rule == "unknown error"
