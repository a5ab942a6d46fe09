"""Charts of an hour as SVG."""

from __future__ import annotations

import re
from typing import Any, get_args
from xml.etree import ElementTree

import pytest

from adapters.web.asgi import STATIC
from adapters.web.charts import chart_cards
from adapters.web.state import Action, ChartCard
from recovery.monitoring.minutes import Minute
from recovery.monitoring.snapshot import Distribution

SVG = "{http://www.w3.org/2000/svg}"
STYLES = (STATIC / "page.css").read_text(encoding="utf-8")
SCRIPT = (STATIC / "page.js").read_text(encoding="utf-8")


def hour(*known: Minute) -> list[Minute]:
    return [*(Minute(began=60.0 * one) for one in range(60 - len(known))), *known]


def minute(**about: Any) -> Minute:
    return Minute(began=0.0, **about)


def recovered(p50: float, p95: float) -> Distribution:
    return Distribution(count=2, mean=p50, p50=p50, p95=p95, p99=p95)


def charts(*known: Minute) -> dict[str, ChartCard]:
    return {card.name: card for card in chart_cards(hour(*known))}


def bars(card: ChartCard) -> list[tuple[str, float]]:
    """The class and the height of each bar."""
    return [
        (bar.attrib["class"], float(bar.attrib["height"]))
        for bar in ElementTree.fromstring(card.svg).iter(f"{SVG}rect")
    ]


def test_a_minute_has_a_bar_as_high_as_its_share_of_successes():
    card = charts(minute(calls=4, successes=4), minute(calls=4, successes=2), minute())["success"]
    assert bars(card) == [("bar good", 58.0), ("bar low", 29.0)]
    assert card.summary == "6 of 8 calls succeeded (75 %)"


def test_recoveries_have_a_bar_for_the_median_before_one_for_95_percent():
    card = charts(minute(recovery=recovered(3.0, 6.0)), minute(recovery=recovered(30.0, 40.0)))["recovery"]
    assert bars(card) == [("bar soft", 5.8), ("bar soft", 38.7), ("bar", 2.9), ("bar", 29.0)]
    assert ">1 min<" in card.svg
    assert card.summary.startswith("4 calls recovered, in 16 s on average")


def test_an_overhead_above_five_percent_stands_out():
    card = charts(minute(overhead=0.05), minute(overhead=0.1))["overhead"]
    assert bars(card) == [("bar", 29.0), ("bar low", 58.0)]
    assert card.summary == "Latest 10 %, most 10 %"


def test_an_hour_without_calls_says_so():
    assert [card.summary for card in charts().values()] == [
        "No call has ended.",
        "No call had to recover.",
        "Not measured yet.",
    ]


@pytest.mark.parametrize("worst", [0.0, 1e-9, 7200.0, 1e9])
def test_no_figure_breaks_a_chart(worst: float):
    for card in charts(minute(calls=1, recovery=recovered(worst, worst), overhead=worst)).values():
        assert all(1.0 <= height <= 58.0 for _, height in bars(card))


def test_a_share_is_whole_only_if_it_is():
    assert charts(minute(calls=100_000, successes=99_999))["success"].summary.endswith("(99.9 %)")
    assert charts(minute(overhead=0.0001))["overhead"].summary == "Latest under 0.1 %, most under 0.1 %"


def test_a_chart_has_a_title_and_says_itself_in_words():
    for card in charts(minute(calls=2, successes=1)).values():
        root = ElementTree.fromstring(card.svg)
        about = {one.attrib["id"]: one.text for one in (*root.iter(f"{SVG}title"), *root.iter(f"{SVG}desc"))}
        assert root.attrib["role"] == "img"
        assert [about[one] for one in root.attrib["aria-labelledby"].split()] == [card.title, card.summary]


def test_charts_have_no_styles_of_their_own_and_the_page_has_those_of_their_classes():
    for card in charts(minute(calls=1, recovery=recovered(1.0, 2.0), overhead=0.1)).values():
        assert "style" not in card.svg
        assert all(f".{name}" in STYLES for names in re.findall('class="(.+?)"', card.svg) for name in names.split())


def test_the_page_has_a_label_for_each_action():
    labels = re.search(r"const LABELS = \{(.+?)\}", SCRIPT, re.DOTALL)
    assert labels is not None
    assert set(re.findall(r'"?([a-z][a-z ]*?)"?:', labels[1])) == set(get_args(Action))


def test_the_page_never_writes_markup():
    assert not re.search("innerHTML|outerHTML|insertAdjacent|document\\.write|eval|setTimeout\\([\"']", SCRIPT)
