"""What the clients of HTTP services raise for an answer, and what it means."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

from events.evidence import Category
from recovery import Classification, classify
from tests.evidence.clients import CLIENTS
from tests.evidence.loopback import CUT_OFF, Answer, closed_port, http_server

RAISES_FOR_A_STATUS = sorted(CLIENTS.keys() - {"urllib3"})
READS_JSON = sorted(CLIENTS.keys() - {"botocore", "elasticsearch"})
NOW = int(time.time())
DATE = "Fri, 20 Mar 2026 10:00:00 GMT"
IN_A_MINUTE = "Fri, 20 Mar 2026 10:01:00 GMT"
IN_A_MINUTE_EPOCH = "1774000860"


def failure(ask: Callable[[str], Any], url: str) -> Exception:
    try:
        answer = ask(url)
    except Exception as error:
        return error
    raise AssertionError(f"no error, but {answer!r}")


def asked(name: str, answer: Answer) -> Classification:
    with http_server(answer) as url:
        return classify(failure(CLIENTS[name], url))


@pytest.mark.parametrize("name", RAISES_FOR_A_STATUS)
@pytest.mark.parametrize(
    ("status", "category"),
    [
        (400, Category.PERMANENT),
        (401, Category.AUTH),
        (403, Category.AUTH),
        (404, Category.PERMANENT),
        (422, Category.PERMANENT),
        (429, Category.RATE_LIMITED),
        (500, Category.TRANSIENT),
        (503, Category.TRANSIENT),
    ],
)
def test_a_status_decides(name: str, status: int, category: Category) -> None:
    judged = asked(name, Answer(status))
    assert (judged.category, judged.retry_after) == (category, None)


@pytest.mark.parametrize("name", RAISES_FOR_A_STATUS)
@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(429, {"Retry-After": "7"}), 7.0),
        (Answer(429, {"Retry-After": "299.997"}), 300.0),
        (Answer(429, {"Retry-After-Ms": "2500"}), 2.5),
        (Answer(429, {"Retry-After": IN_A_MINUTE, "Date": DATE}), 60.0),
        (Answer(429, {"X-RateLimit-Reset-After": "1.25"}), 1.25),
        (Answer(429, {"RateLimit": '"api";r=0;t=55'}), 56.0),
        (Answer(403, {"Retry-After": "60"}), 60.0),
        (Answer(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": IN_A_MINUTE_EPOCH, "Date": DATE}), 60.0),
    ],
)
def test_the_server_is_waited_for_as_long_as_it_says(name: str, answer: Answer, seconds: float) -> None:
    judged = asked(name, answer)
    assert (judged.category, judged.retry_after) == (Category.RATE_LIMITED, seconds)


@pytest.mark.parametrize("name", RAISES_FOR_A_STATUS)
def test_a_wait_may_come_with_a_server_that_is_ill(name: str) -> None:
    judged = asked(name, Answer(503, {"Retry-After": "3"}))
    assert (judged.category, judged.retry_after) == (Category.TRANSIENT, 3.0)


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_a_host_that_is_not_reached_is_unreachable(name: str) -> None:
    error = failure(CLIENTS[name], f"http://127.0.0.1:{closed_port()}")
    assert classify(error).category is Category.UNREACHABLE


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_a_body_that_breaks_off_is_transient(name: str) -> None:
    assert asked(name, Answer(CUT_OFF)).category is Category.TRANSIENT


@pytest.mark.parametrize("name", READS_JSON)
def test_a_json_answer_that_is_cut_off_is_transient(name: str) -> None:
    assert asked(name, Answer(200, {}, b'{"a": [1, 2')).category is Category.TRANSIENT


def test_urllib3_says_after_which_status_it_gave_up() -> None:
    def ask(url: str) -> Any:
        with urllib3.PoolManager() as pool:
            return pool.request("GET", url, retries=urllib3.Retry(1, status_forcelist=[503], backoff_factor=0))

    with http_server(Answer(503)) as url:
        assert classify(failure(ask, url)).category is Category.TRANSIENT


def test_openai_says_that_the_money_is_used_up() -> None:
    answer = Answer(429, {}, b'{"error": {"message": "no", "code": "insufficient_quota"}}')
    assert asked("openai", answer).category is Category.AUTH


def test_openai_passes_on_whether_to_try_again() -> None:
    assert asked("openai", Answer(409, {"x-should-retry": "true"})).category is Category.TRANSIENT
    assert asked("openai", Answer(500, {"x-should-retry": "false"})).category is Category.PERMANENT


@pytest.mark.parametrize("code", ["SlowDown", "Throttling", "RequestLimitExceeded"])
def test_botocore_says_by_a_code_that_it_is_throttled(code: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    assert asked("botocore", Answer(400, {"Content-Type": "application/xml"}, body)).category is Category.RATE_LIMITED


def test_github_says_in_words_that_a_second_limit_is_reached() -> None:
    body = b'{"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}'
    assert asked("github", Answer(403, {}, body)).category is Category.RATE_LIMITED


def test_google_says_in_the_body_how_long_to_wait() -> None:
    info = '{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}'
    body = f'{{"error": {{"code": 429, "message": "no", "details": [{info}]}}}}'.encode()
    judged = asked("google", Answer(429, {}, body))
    assert (judged.category, judged.retry_after) == (Category.RATE_LIMITED, 34.5)
