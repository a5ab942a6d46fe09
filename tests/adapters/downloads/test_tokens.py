"""Tokens by host family: which request gets which token, and the question for one that is missing or refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from adapters.downloads import AccessError, Tokens, download
from adapters.downloads.refusals import refused
from events.evidence import Category
from recovery import Recovery, RetryPolicy, Secret, Strategy
from recovery.policies.backoff import Constant
from recovery.questions import OpenQuestion
from tests.adapters.downloads.targets import CONTENT

# trio tells of one that httpx2 does not close
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpcore2")

HF, CIVITAI, HOST = "hf_" + "a" * 30, "c" * 32, "h" * 32


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tokens:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub")
    monkeypatch.setenv("OUR_HF", f" {HF}\n")
    (tmp_path / "civitai").write_text(f"{CIVITAI}\n")
    monkeypatch.setenv("OUR_HOST", HOST)
    given = {
        "huggingface": "env:OUR_HF",
        "civitai.com": f"file:{tmp_path / 'civitai'}",
        "Models.example": "env:OUR_HOST",
    }
    return Tokens(Recovery(), {key: Secret(reference) for key, reference in given.items()})


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://huggingface.co/o/r/resolve/main/f", HF),
        ("https://hf.co/o/r/resolve/main/f", HF),
        ("https://mirror.example/hub/o/r", HF),
        ("https://civitai.com/api/download/models/1", CIVITAI),
        ("https://civitai.red/api/download/models/1", CIVITAI),
        ("https://MODELS.example:443/f", HOST),
        # Other hosts of the same company, which get presigned URLs.
        ("https://cas-bridge.xethub.hf.co/f", None),
        ("https://cdn-lfs.huggingface.co/f", None),
        ("https://b2.civitai.com/f", None),
        ("https://auth.civitai.com/login", None),
        # What only looks like one of the hosts, or is not encrypted.
        ("http://huggingface.co/f", None),
        ("http://mirror.example/hub/f", None),
        ("https://huggingface.co:8443/f", None),
        ("https://huggingface.co.evil.example/f", None),
        ("https://huggingface.co@evil.example/f", None),
        ("https://evil.example/huggingface.co", None),
        ("https://models.example:8443/f", None),
        ("ftp://huggingface.co/f", None),
        ("", None),
    ],
)
def test_a_token_goes_to_the_hosts_of_its_family_alone(tokens: Tokens, url: str, token: str | None) -> None:
    assert tokens.headers(url) == ({"Authorization": f"Bearer {token}"} if token else {})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/f", "http://localhost:8000/f", "http://[::1]:8000/f"])
def test_on_this_computer_http_is_safe_enough(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_HOST", HOST)
    key = url.removeprefix("http://").removesuffix("/f")
    tokens = Tokens(Recovery(), {key: Secret("env:OUR_HOST")})
    assert tokens.headers(url) == {"Authorization": f"Bearer {HOST}"}
    assert tokens.headers(url.replace("8000", "8001")) == {}


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("civitia", "'civitia' is no family of hosts and no host; did you mean 'civitai'?"),
        ("https://models.example", "is no family of hosts and no host"),
        ("", "is no family of hosts and no host"),
    ],
)
def test_a_key_that_is_no_host_is_refused(key: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Tokens(Recovery(), {key: Secret("env:A")})


def test_a_token_is_given_by_reference() -> None:
    with pytest.raises(TypeError, match=r"of huggingface must be a Secret\(.*not a str") as raised:
        Tokens(Recovery(), {"huggingface": HF})  # type: ignore[dict-item]
    assert HF not in str(raised.value)


URL = "https://huggingface.co/o/r/resolve/main/f"


def refuse(tokens: Tokens) -> None:
    """One attempt, which the server refuses."""
    with tokens.attempt() as headers:
        error = refused(401, {}, b"", url=URL, asked=URL, has_token=bool(headers(URL)))
        assert error is not None
        raise error


def asked(service: Recovery, tokens: Tokens) -> OpenQuestion:
    """The question that a call waits for whose token is missing or refused."""
    policy = RetryPolicy(per_category={Category.AUTH: Strategy(wait_for=(service.calls.question_of,))})
    fetch = service.recoverable("fetch", policy=policy)(refuse)

    def wait() -> None:
        with suppress(AccessError):
            fetch(tokens)

    threading.Thread(target=wait, daemon=True).start()
    for _ in range(2000):
        if questions := service.calls.questions():
            return questions[0]
        threading.Event().wait(0.002)
    raise TimeoutError


@pytest.mark.parametrize(
    ("reference", "value", "reason"),
    [
        ("env:OUR_HF", None, "the environment has no OUR_HF"),
        ("env:OUR_HF", " ", "env:OUR_HF is empty"),
        ("env:OUR_HF", "two words", "env:OUR_HF holds blanks or characters that are not ASCII, as no token does"),
        ("env:OUR_HF", "a\nb: c", "env:OUR_HF holds blanks or characters that are not ASCII, as no token does"),
        ("env:OUR_HF", HF, "the token was refused: 401"),
        ("file:/no/such/file", None, "file:/no/such/file cannot be read: No such file or directory"),
        ("file:/usr", None, "file:/usr cannot be read: Is a directory"),
    ],
)
def test_a_token_that_is_missing_or_refused_asks_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, reference: str, value: str | None, reason: str
) -> None:
    if value is not None:
        monkeypatch.setenv("OUR_HF", value)
    service = Recovery()
    question = asked(service, Tokens(service, {"huggingface": Secret(reference)}))
    assert (question.name, question.kind, question.reason) == ("token:huggingface", "secret", reason)
    assert question.link == "https://huggingface.co/settings/tokens"
    service.calls.give_up(question.calls[0])


def test_the_reason_of_a_refused_answer_is_not_replaced_by_that_of_a_missing_token() -> None:
    service = Recovery()
    tokens = Tokens(service, {"huggingface": Secret("env:OUR_HF")})
    service.calls.answer("token:huggingface", "wrong", remember=True)
    for _ in range(2):  # the second one has no token any more
        with pytest.raises(AccessError):
            refuse(tokens)
    question = asked(service, tokens)
    assert question.reason == "the token was refused: 401"
    service.calls.give_up(question.calls[0])


def test_an_answer_that_came_while_another_token_was_refused_is_kept() -> None:
    service = Recovery()
    tokens = Tokens(service)
    service.calls.question("token:huggingface", "secret")
    service.calls.answer("token:huggingface", "first")
    with pytest.raises(AccessError, match="the token was refused: 401"), tokens.attempt() as headers:
        assert headers(URL) == {"Authorization": "Bearer first"}
        service.calls.answer("token:huggingface", "second")
        raise refused(401, {}, b"", url=URL, asked=URL, has_token=True) or AssertionError
    assert tokens.headers(URL) == {"Authorization": "Bearer second"}
    with pytest.raises(AccessError):
        refuse(tokens)
    assert tokens.headers(URL) == {}


def test_a_token_that_no_line_is_safe_for_is_not_asked_for_without_the_reason() -> None:
    service, url = Recovery(), "http://models.example/f"
    service.calls.answer("token:models.example", "secret")
    with pytest.raises(AccessError) as raised, Tokens(service).attempt() as headers:
        assert headers(url) == {}
        raise refused(401, {}, b"", url=url, asked=url) or AssertionError
    assert raised.value.__notes__ == ["no token is sent over http, where others can read it; use https"]
    assert not service.calls.is_answered("token:models.example")


# Two real servers


class Gate(ThreadingHTTPServer):
    """A server that notes the tokens that it gets, and answers as *respond* says."""

    daemon_threads = True

    def __init__(self, token: str = "", location: str = "") -> None:
        self.token, self.location = token, location
        self.got: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Sends the content, or leads on, to those who have the token."""

    server: Gate  # pyright: ignore[reportIncompatibleVariableOverride]  # the only server that uses it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class calls it so
        """Print nothing."""

    def do_GET(self) -> None:
        got = self.headers.get("Authorization")
        self.server.got.append(got)
        if self.server.token and got != f"Bearer {self.server.token}":
            body, status = b'{"error": "who are you?"}', 401
        else:
            body, status = (b"", 302) if self.server.location else (CONTENT, 200)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 302:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def servers() -> Iterator[tuple[Gate, Gate]]:
    with Gate() as storage, Gate("right", f"http://{storage.host}/f?signature=abc") as gate:
        for server in (storage, gate):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield gate, storage
        gate.shutdown()
        storage.shutdown()


@pytest.mark.anyio
async def test_a_download_asks_until_its_token_is_right_and_leads_it_to_no_other_origin(
    servers: tuple[Gate, Gate], tmp_path: Path
) -> None:
    gate, storage = servers
    service, name = Recovery(), f"token:{gate.host}"
    tokens = Tokens(service, {gate.host: Secret("env:OUR_MISSING")})
    asks = Strategy(wait_for=(service.calls.question_of,), backoff=Constant(0.0))
    reasons: list[str] = []

    @service.recoverable("fetch", policy=RetryPolicy(per_category={Category.AUTH: asks}))
    async def fetch() -> Any:
        async with httpx2.AsyncClient(follow_redirects=True) as client:
            with tokens.attempt() as headers:
                return await download(client, f"http://{gate.host}/f?a=b", tmp_path / "f", headers=headers)

    async def answer() -> None:
        for value in ("wrong", "right"):
            while not (questions := service.calls.questions()):
                await anyio.sleep(0.002)
            reasons.extend(one.reason for one in questions)
            service.calls.answer(name, value)

    with anyio.fail_after(10.0):
        async with anyio.create_task_group() as group:
            group.start_soon(answer)
            assert (await fetch()).size == len(CONTENT)
    assert reasons == ["the environment has no OUR_MISSING", "the token was refused: 401: who are you?"]
    assert (gate.got, storage.got) == ([None, "Bearer wrong", "Bearer right"], [None])
