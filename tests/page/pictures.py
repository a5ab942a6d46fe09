"""Write the pictures of the page into docs/pictures: both widths, light and dark, of at most 256 colours.

python -m tests.page.pictures
"""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.chromium import MissingError, chromium
from tests.page.stage import Stage
from tests.page.states import bad_day

AT = 1_800_000_000.0
"""The Unix time in the pictures, so that they differ only where the page does."""

FOLDER = Path(__file__).parent.parent.parent / "docs" / "pictures"
LAST = {1400: "c1-3", 390: "c1-1"}
"""The call with which the picture of each width ends."""


def write(browser: Any, url: str) -> None:
    """Write each picture of the page at *url*."""
    FOLDER.mkdir(exist_ok=True)
    for scheme in ("light", "dark"):
        for width, last in LAST.items():
            size = {"width": width, "height": 3000}
            page = browser.new_page(viewport=size, color_scheme=scheme, timezone_id="UTC", locale="en-GB")
            page.clock.set_fixed_time(AT)
            page.goto(url)
            page.locator(".call").first.wait_for()
            page.locator("#charts svg").last.wait_for(state="attached")
            end = page.locator(f"#call-{last}").bounding_box()
            clip = {"x": 0, "y": 0, "width": width, "height": end["y"] + end["height"]}
            shrunk(page.screenshot(clip=clip)).save(FOLDER / f"page-{scheme}-{width}.png", optimize=True)
            page.close()


def shrunk(picture: bytes) -> Any:
    """The same PNG with at most 256 colours, which takes a third of the bytes."""
    from PIL import Image

    return Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE)


def main() -> None:
    """Write all pictures."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    state = bad_day(AT)
    state = replace(state, questions=state.questions[:1])  # the others take the place of calls
    try:
        with Stage(state) as stage, chromium() as browser:
            write(browser, stage.url)
    except MissingError as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
