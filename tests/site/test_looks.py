"""The site at both widths, light and dark: quiet, complete, no wider than its window, and with a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.docs.nav import NAV, PAGES

KINDS = {part: pages[0][1] for part, pages in NAV.items()}
"""The first page of each part."""

every_kind = pytest.mark.parametrize("page", KINDS.values(), ids=KINDS)
every_width = pytest.mark.parametrize("width", [390, 1400])
every_scheme = pytest.mark.parametrize("scheme", ["light", "dark"])


@pytest.fixture
def open_page(browser: Any, site: str) -> Iterator[Callable[..., Any]]:
    """Opens a page of the site in a window of its own: it must load nothing from outside, and complain of nothing."""
    contexts, faults = [], []

    def opened(page: str, width: int = 1400, until: str = "networkidle", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        context.set_default_timeout(5000)
        contexts.append(context)
        window = context.new_page()
        inside = (site, "data:", "blob:")
        window.on("request", lambda one: None if one.url.startswith(inside) else faults.append(one.url))
        window.on("response", lambda one: faults.append(f"{one.status} {one.url}") if one.status >= 400 else None)
        window.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        window.on("pageerror", lambda error: faults.append(str(error)))
        window.goto(site + page.replace(".md", ".html"), wait_until=until)
        return window

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@every_scheme
@every_width
@every_kind
def test_a_page_is_quiet_and_fits_its_window(open_page: Callable[..., Any], page: str, width: int, scheme: str):
    window = open_page(page, width, color_scheme=scheme)
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    red, green, blue = window.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)")
    assert (int(red) + int(green) + int(blue) < 200) == (scheme == "dark")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_fits_a_phone(open_page: Callable[..., Any], page: str):
    window = open_page(page, 390, "load")
    assert window.evaluate("document.documentElement.scrollWidth") <= 390
    broken = "[...document.images].filter((one) => !(one.complete && one.naturalWidth)).map((one) => one.src)"
    assert window.evaluate(broken) == []


@every_width
def test_the_search_finds_a_page_about_retries(open_page: Callable[..., Any], width: int):
    window = open_page("index.md", width)
    window.locator("button.md-search__button:visible, header label[for=__search]:visible").first.click()
    window.get_by_role("combobox", name="Search").fill("retry")
    found = window.get_by_role("option").first
    found.click()
    window.wait_for_url("**/*.html?h=retry*")
    assert "retry" in window.locator("article").inner_text().lower()


def test_a_phone_has_the_whole_navigation_in_its_drawer(open_page: Callable[..., Any]):
    window = open_page("index.md", 390)
    window.locator("label[for=__drawer]:visible").first.click()
    for part in NAV:
        window.locator(".md-nav--primary .md-nav__link:visible", has_text=part).first.wait_for()


def test_the_copy_button_of_a_console_gives_its_commands_alone(open_page: Callable[..., Any]):
    window = open_page("tutorial/first-steps.md", permissions=["clipboard-read", "clipboard-write"])
    for block, commands in (
        (
            "$ pip install",
            "python3 -m venv .venv\n. .venv/bin/activate\npip install '/path/to/launcher-recovery[launcher]'",
        ),
        ("urllib.error.HTTPError: HTTP Error 503", "python plain.py"),
    ):
        console = window.locator(".language-console", has_text=block).first
        console.hover()
        console.get_by_role("button", name="Copy").click()
        window.get_by_text("Copied to clipboard").wait_for()
        assert window.evaluate("navigator.clipboard.readText()") == commands
