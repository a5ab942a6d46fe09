"""A thousand live calls, each changing four times a second: script time by Chromium's own counter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from adapters.web.state import PageState
from tests.page.stage import Stage
from tests.page.states import many

SECONDS = 5
EVERY = 0.25
MOST_SCRIPT = 0.1
"""Seconds of script time a second."""


def test_a_thousand_live_calls_take_under_100_ms_of_script_a_second(now: float, open_page: Callable[..., Any]):
    with Stage(PageState(at=now, headline="0", source="load", is_live=True, may_change=True, calls=many(now))) as stage:
        page = open_page(stage.url, height=1000)
        assert page.locator(".call").count() == 1000
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        before = metrics(session)
        for step in range(1, int(SECONDS / EVERY) + 1):
            began = time.monotonic()
            stage.change(headline=f"{step}", calls=many(now, step=step), gone=gone(step))
            page.wait_for_timeout(max(EVERY - (time.monotonic() - began), 0.0) * 1000)
        page.get_by_role("heading", name=f"{step}", exact=True).wait_for()
        after = metrics(session)
    taken = {name: (after[name] - before[name]) / SECONDS for name in before}
    print({name: f"{value * 1000:.0f} ms/s" for name, value in taken.items()})
    assert taken["ScriptDuration"] < MOST_SCRIPT


def gone(step: int) -> list[str]:
    """Calls that end in that step, and are listed again in the next."""
    return [f"m-{(step * 25 + one) % 1000}" for one in range(25)]


def metrics(session: Any) -> dict[str, float]:
    found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    return {name: found[name] for name in ("ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration")}
