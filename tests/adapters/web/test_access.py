"""The page admits its own browser and its own scripts, and no page of another site: asked over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import anyio
import anyio.to_thread
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from adapters.web import app
from adapters.web.access import Access, Token
from adapters.web.asgi import page
from adapters.web.headers import HEADERS
from adapters.web.source import Done
from adapters.web.state import PageState
from recovery import Recovery
from tests.adapters.web.serving import BEARER, JSON, TOKEN, Served, serving

RETRY = {"action": "retry", "call": "7f3a-1"}


class Noted:
    """A source that notes what it is asked for."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    def read(self) -> PageState:
        return PageState(at=1.0, headline="no calls", source="test", is_live=True)

    def act(self, action: str, call: str) -> Done:
        if call == "broken":
            raise RuntimeError("/home/someone/secret.py is broken")
        self.done.append((action, call))
        return Done(is_done=True, said="done")

    def steer_incident(self, action: str, incident: str) -> Done:
        self.done.append((action, incident))
        return Done(is_done=True, said="done")

    def answer(self, question: str, value: bool | str) -> Done:
        self.done.append((question, value))
        return Done(is_done=True, said="answered")

    def metrics(self, accept: str) -> None:
        return None


@pytest.fixture(scope="module")
def source() -> Noted:
    return Noted()


@pytest.fixture(scope="module")
def served(source: Noted) -> Iterator[Served]:
    with serving(page(source, Access(TOKEN))) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_done(source: Noted) -> None:
    source.done.clear()


def test_the_link_sets_a_cookie_that_scripts_and_other_sites_do_not_get(served: Served):
    answer = served.ask(f"/?token={TOKEN.value.replace(' ', '%20')}", {})
    assert answer.status == 303
    assert answer.headers["location"] == "./"
    cookie, *flags = answer.headers["set-cookie"].split("; ")
    assert set(flags) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert TOKEN.value not in cookie
    assert served.ask("/", {"cookie": cookie}).status == 200
    assert served.ask("/state", {"cookie": cookie}).json()["headline"] == "no calls"


@pytest.mark.parametrize("order", [1, -1])
def test_another_cookie_of_the_same_name_does_not_keep_the_page_from_its_browser(served: Served, order: int):
    cookies = [f"recovery-{served.port}={value}" for value in (TOKEN.cookie, Token().cookie)][::order]
    assert served.ask("/state", {"cookie": "; ".join(["a", *cookies, "b=c"])}).status == 200


@pytest.mark.parametrize("token", ["", "x", "another-start", TOKEN.cookie, "%F0%9F%98%80"])
def test_a_link_of_another_start_is_refused(served: Served, token: str):
    answer = served.ask(f"/?token={token}", {})
    assert answer.status == 401
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/state", "/events", "/metrics"])
@pytest.mark.parametrize("kind", ["none", "cookie", "link as cookie", "bearer", "cookie as bearer", "basic"])
def test_nothing_is_read_without_the_token(served: Served, path: str, kind: str):
    name = f"recovery-{served.port}"
    headers = {
        "none": {},
        "cookie": {"cookie": f"{name}={Token().cookie}"},
        "link as cookie": {"cookie": f"{name}={TOKEN.value}"},
        "bearer": {"authorization": "Bearer wrong\xe9"},
        "cookie as bearer": {"authorization": f"Bearer {TOKEN.cookie}"},
        "basic": {"authorization": f"Basic {TOKEN.value}"},
    }[kind]
    assert served.ask(path, headers).status == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil", ""])
@pytest.mark.parametrize("path", ["/", "/state", "/static/page.js"])
def test_a_foreign_host_name_gets_nothing(served: Served, host: str, path: str):
    answer = served.ask(path, {"host": host, **BEARER})
    assert answer.status == 421
    assert host.encode() not in answer.body or not host


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "[::1]:1", "127.0.0.1"])
def test_this_machine_has_several_names_and_any_port(served: Served, host: str):
    assert served.ask("/state", {"host": host, **BEARER}).status == 200


def test_a_change_of_the_page_is_carried_out(served: Served, source: Noted):
    answer = served.post("/actions", RETRY, served.browser)
    assert (answer.status, answer.json()) == (200, {"is_done": True, "said": "done"})
    assert source.done == [("retry", "7f3a-1")]


def test_an_incident_is_probed_or_given_up(served: Served, source: Noted):
    for action in ("probe", "give up"):
        answer = served.post("/incidents", {"action": action, "incident": "download[example.org]"}, served.browser)
        assert (answer.status, answer.json()["is_done"]) == (200, True)
    assert source.done == [("probe", "download[example.org]"), ("give up", "download[example.org]")]
    assert served.post("/incidents", {"action": "cancel", "incident": "x"}, served.browser).status == 400
    assert served.post("/incidents", {"action": "probe", "incident": "x"}, served.cookie | JSON).status == 403


@pytest.mark.parametrize(
    "origin",
    ["", "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "file://127.0.0.1", "127.0.0.1"],
)
def test_a_change_from_another_page_is_refused(served: Served, source: Noted, origin: str):
    headers = served.browser | {"origin": origin}
    assert served.post("/actions", RETRY, headers).status == 403
    assert source.done == []


def test_a_change_with_a_cookie_must_say_its_origin(served: Served, source: Noted):
    assert served.post("/actions", RETRY, served.cookie | JSON).status == 403
    assert source.done == []


def test_a_script_with_the_bearer_need_not_say_its_origin(served: Served, source: Noted):
    assert served.post("/actions", RETRY, BEARER | JSON).status == 200
    assert served.post("/actions", RETRY, BEARER | JSON | {"origin": "http://evil.example"}).status == 403
    assert len(source.done) == 1


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data", "text/json", ""]
)
def test_what_a_form_can_send_is_refused(served: Served, source: Noted, kind: str):
    headers = served.browser | {"content-type": kind}
    assert served.post("/actions", b'{"action":"retry","call":"x"}', headers).status == 415
    assert source.done == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"action":"drop","call":"x"}', b'{"call":"x"}', b"[" * 60_000])
def test_a_body_that_asks_for_nothing_known_is_refused(served: Served, source: Noted, body: bytes):
    assert served.post("/actions", body, served.browser).status == 400
    assert source.done == []


@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_answer_of_ten_megabytes_is_not_read(served: Served, source: Noted, is_chunked: bool):
    part = b'{"question":"q","value":"' + b"x" * 65_536
    body = (part for _ in range(160)) if is_chunked else part * 160
    with suppress(BrokenPipeError, ConnectionResetError):  # the server may close the connection before it is sent
        assert served.ask("/answers", served.browser, method="POST", body=body).status == 413
    assert source.done == []


def test_an_answer_is_not_sent_back(served: Served, source: Noted):
    answer = served.post("/answers", {"question": "token", "value": "hunter2 hunter2"}, served.browser)
    assert source.done == [("token", "hunter2 hunter2")]
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_a_change_is_a_post(served: Served, source: Noted, method: str):
    assert served.ask("/actions", served.browser, method=method, body=b"{}").status == 405
    assert source.done == []


@pytest.mark.parametrize("path", ["/", "/state", "/nothing", "/static/page.js", "/static/../asgi.py", "/?token=x"])
def test_every_answer_has_the_headers(served: Served, path: str):
    for headers in (BEARER, {}, {"host": "evil.example"}):
        assert HEADERS.items() <= served.ask(path, headers).headers.items()


def test_an_error_shows_no_path_and_no_traceback(served: Served):
    answer = served.post("/actions", {"action": "retry", "call": "broken"}, served.browser)
    assert answer.status == 500
    assert answer.json() == {"error": "the server has failed; its log says why"}
    assert HEADERS.items() <= answer.headers.items()


@pytest.mark.parametrize("path", ["/state/", "/static"])
def test_no_answer_redirects_to_an_address_with_the_host(served: Served, path: str):
    answer = served.ask(path)
    assert (answer.status, "location" in answer.headers) == (404, False)


@pytest.mark.parametrize("path", ["/static/../asgi.py", "/static/%2e%2e/asgi.py", "/static//etc/passwd", "/static/"])
def test_static_files_are_those_of_the_page(served: Served, path: str):
    assert served.ask(path).status == 404


@pytest.mark.anyio
async def test_the_page_is_served_while_the_threads_of_its_program_are_busy():
    transport = httpx2.ASGITransport(app=page(Noted(), Access(TOKEN)))
    limiter = anyio.to_thread.current_default_thread_limiter()
    before, limiter.total_tokens = limiter.total_tokens, 0
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=BEARER) as client:
            with anyio.fail_after(5):
                answers = [await client.get(path) for path in ("/", "/static/page.js", "/state", "/metrics")]
    finally:
        limiter.total_tokens = before
    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]
    assert answers[1].headers["content-type"] == "text/javascript; charset=utf-8"


async def is_ours(request: Request) -> bool:
    return request.headers.get("x-user") == "anna"


@pytest.fixture(scope="module")
def mounted(source: Noted) -> Iterator[Served]:
    """Pages under another app."""
    with Recovery() as service:
        pages = {
            "/open": app(service),
            "/function": page(source, Access(is_ours, ["*"])),
            "/shows": page(source, Access(TOKEN, is_read_only=True)),
            "/a b;c": page(source, Access(TOKEN)),
        }
        with serving(Starlette(routes=[Mount(path, one) for path, one in pages.items()])) as server:
            yield server


def test_without_auth_every_request_reads_and_none_changes(mounted: Served):
    assert mounted.ask("/open/state", {}).json()["may_change"] is False
    assert mounted.post("/open/actions", RETRY, JSON | {"origin": mounted.origin}).status == 403
    assert mounted.post("/open/actions", RETRY, JSON | BEARER).status == 403
    assert mounted.ask("/open/state", {"host": "evil.example"}).status == 421


def test_a_function_admits_requests(mounted: Served):
    assert mounted.ask("/function/state", {"x-user": "anna", "host": "any.example"}).json()["may_change"] is True
    assert mounted.ask("/function/state", {"x-user": "eve"}).status == 401


def test_a_page_that_only_shows_changes_nothing(mounted: Served, source: Noted):
    assert mounted.ask("/shows/state").json()["may_change"] is False
    assert mounted.post("/shows/actions", RETRY, mounted.browser).status == 403
    assert source.done == []


def test_a_page_that_is_mounted_gives_its_cookie_to_its_own_paths_alone(mounted: Served):
    answer = mounted.ask(f"/shows/?token={TOKEN.value.replace(' ', '%20')}", {})
    assert (answer.status, answer.headers["location"]) == (303, "./")
    assert "; Path=/shows/; " in answer.headers["set-cookie"]
    spaced = mounted.ask(f"/a%20b%3Bc/?token={TOKEN.value.replace(' ', '%20')}", {})
    assert "; Path=/a%20b%3Bc/; " in spaced.headers["set-cookie"]
    assert mounted.ask("/shows/", mounted.cookie).status == 200
    assert mounted.ask("/shows/static/page.css", {}).status == 200
    assert mounted.ask("/shows/nothing").status == 404


def test_what_admits_must_be_able_to():
    with pytest.raises(TypeError, match="auth must be a Token"):
        Access("secret")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="must be a list of names"):
        Access(TOKEN, "launcher.example.org")
    with pytest.raises(ValueError, match="at least 16"):
        Token("short")
    assert TOKEN.value not in repr(TOKEN)
