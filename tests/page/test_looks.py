"""The page at both widths, in both colour schemes: accessible by axe-core, without scrolling sideways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.page.stage import Stage
from tests.page.states import bad_day, many

AUDIT = "axe.run({ resultTypes: ['violations'] }).then((found) => found.violations)"


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(now: float, open_page: Callable[..., Any], axe: str, width: int, scheme: str):
    with Stage(bad_day(now)) as stage:
        page = open_page(stage.url, width, 3600, color_scheme=scheme)
        page.evaluate(axe)
        found = page.evaluate(AUDIT)
    assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("width", [320, 390, 800, 1400])
def test_the_page_is_no_wider_than_its_window(now: float, open_page: Callable[..., Any], width: int):
    with Stage(bad_day(now)) as stage:
        page = open_page(stage.url, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_rows_that_change_out_of_sight_leave_the_charts_their_place(now: float, open_page: Callable[..., Any]):
    with Stage(bad_day(now, calls={})) as stage:
        page = open_page(stage.url, height=600)
        stage.change(headline="shown", calls=many(now, 300))
        page.get_by_role("heading", name="Shown").wait_for()
        page.wait_for_timeout(200)  # frames, in which sizes are remembered
        page.evaluate("scrollTo(0, 30_000)")
        page.wait_for_timeout(200)
        stage.change(headline="changed", calls=many(now, 300, step=1))
        page.locator("#call-m-0.plain").wait_for(state="attached")
        left, right = page.locator("#calls").bounding_box(), page.locator("aside").bounding_box()
    assert left["x"] + left["width"] < right["x"]


def test_the_page_moves_nothing_for_readers_that_want_no_motion(now: float, open_page: Callable[..., Any]):
    with Stage(bad_day(now)) as stage:
        page = open_page(stage.url, reduced_motion="reduce")
        assert page.locator("button").first.evaluate("(one) => getComputedStyle(one).transitionDuration") == "0s"
