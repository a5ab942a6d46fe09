"""Debian's Chromium, driven by Playwright, for the tests of the page and of the documentation's site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class MissingError(Exception):
    """What the tests in a browser need is not installed; the text says how to get it."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser while the block lasts."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingError("this needs the dependency group `page` (Playwright): `make page` installs it") from None
    found = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if found is None:
        raise MissingError("this needs Chromium: `apt-get install chromium`, or CHROMIUM=/path/to/it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()
