"""A download as a person sees it, from its first failure to its end: a real service, server and browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from adapters.memory import MemoryStore
from adapters.web import app
from events import Category
from events.errors import NeedsPerson, Remedy
from recovery import Constant, Recovery, RetryPolicy, Strategy
from tests.adapters.web.serving import TOKEN, serving
from tests.until import wait_until

LINK = "https://huggingface.co/settings/tokens"
TEXT = "Make an access token, and paste it here."
LOGIN = Remedy(TEXT, link=LINK, question="token of huggingface.co", kind="secret")
ENTER = f"?token={TOKEN.value}"


class Download:
    """A download that fails on the network, then wants a token, then works; it runs in a thread."""

    def __init__(self, service: Recovery) -> None:
        self.errors: list[Exception] = [
            ConnectionResetError(104, "Connection reset by peer"),
            NeedsPerson("401 Unauthorized", remedy=LOGIN),
        ]
        self.ended: list[object] = []
        patient = Strategy(backoff=Constant(0.0), wait_for=(service.calls.question_of,))
        policy = RetryPolicy(backoff=Constant(3000.0), jitter="none", per_category={Category.AUTH: patient})
        self.run = service.recoverable("download", policy=policy, key=str, resumable=True)(self.attempt)
        self.thread = threading.Thread(target=self.begin, daemon=True)

    def attempt(self, host: str) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return host

    def begin(self) -> None:
        self.ended.append(self.run("huggingface.co"))


@pytest.fixture
def service() -> Iterator[Recovery]:
    with Recovery(store=MemoryStore(), enable_logging=False) as service:
        service.monitor()
        yield service


@pytest.fixture
def download(service: Recovery) -> Download:
    return Download(service)


def test_a_download_fails_is_retried_asks_is_answered_and_finishes(
    service: Recovery, download: Download, open_page: Callable[..., Any]
):
    with serving(app(service, TOKEN)) as served:
        page, other = open_page(f"{served.origin}/{ENTER}"), open_page(f"{served.origin}/{ENTER}", 390)
        assert page.url == f"{served.origin}/"
        download.thread.start()
        row = page.locator(".call", has_text="download")
        row.get_by_text("Waiting").wait_for()
        assert "Connection reset by peer" in row.locator(".said").inner_text()
        assert row.locator(".when").inner_text().startswith("in ")
        row.get_by_role("button", name="Retry now").click()
        page.get_by_role("status").get_by_text("Its next attempt begins now").wait_for()
        for window in (page, other):
            window.get_by_text(TEXT).first.wait_for()
            assert window.locator("#questions a").get_attribute("href") == LINK
        other.locator("input[type=password]").fill("hf_secret_of_a_person")
        other.get_by_role("button", name="Answer").click()
        wait_until(lambda: download.ended)
        for window in (page, other):
            window.locator("[data-group=over] .call").get_by_text("Succeeded").wait_for()
            window.locator("#questions").wait_for(state="hidden")
            assert "hf_secret" not in window.content()


def test_a_page_comes_back_when_its_server_does(service: Recovery, download: Download, open_page: Callable[..., Any]):
    with serving(app(service, TOKEN)) as served:
        page = open_page(f"{served.origin}/{ENTER}")
    page.get_by_text("Connection lost").wait_for()
    download.thread.start()
    with serving(app(service, TOKEN), port=served.port):
        page.locator(".call", has_text="download").wait_for(timeout=15_000)
        assert not page.locator("#connection").is_visible()


def test_a_page_under_another_app_finds_its_own_addresses(
    service: Recovery, download: Download, open_page: Callable[..., Any]
):
    outer = Starlette(routes=[Mount("/recovery", app(service, TOKEN))])
    with serving(outer) as served:
        page = open_page(f"{served.origin}/recovery/{ENTER}")
        download.thread.start()
        page.get_by_role("button", name="Retry now").click()
        page.get_by_text(TEXT).first.wait_for()


def test_a_page_without_auth_shows_everything_and_steers_nothing(
    service: Recovery, download: Download, open_page: Callable[..., Any]
):
    with serving(app(service)) as served:
        page = open_page(served.origin)
        download.thread.start()
        page.locator(".call", has_text="download").wait_for()
        assert page.locator(".call button, form").count() == 0
