"""The page in Debian's Chromium, driven by Playwright: ``make page`` runs these tests, ``make test`` does not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import MissingError, chromium

HERE = Path(__file__).parent
AXE = "node_modules/axe-core/axe.min.js"


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Whether this folder is left out: unless it, or a file in it, was named."""
    named = [Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args]
    return None if any(path.is_relative_to(HERE) for path in named) else True


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    try:
        with chromium() as browser:
            yield browser
    except MissingError as missing:
        pytest.exit(str(missing), 1)


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, which checks accessibility."""
    folder = Path(os.environ.get("AXE_FOLDER", HERE.parent.parent / ".venv" / "axe"))
    if not (folder / AXE).exists():
        pytest.exit(f"tests/page needs axe-core: `npm install --prefix {folder} axe-core`, as `make page` does", 1)
    return (folder / AXE).read_text(encoding="utf-8")


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a window of its own, and waits for its calls; the script must not fail there."""
    contexts, errors = [], []

    def opened(url: str, width: int = 1400, height: int = 3600, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(5000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(url)
        page.locator("#source:not(:text('Recovery'))").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def now() -> float:
    return time.time()
