"""Charts of the last hour as SVG: success rate, recovery time, overhead. Pure.

The markup has classes and no styles, so the page's content security policy holds; page.css colours it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapters.web.state import ChartCard
from recovery.explain import counted, duration
from recovery.monitoring.minutes import Minute

WIDTH, HEIGHT = 320, 88
LEFT, TOP, BOTTOM = 44, 8, 66
"""The edges of the plot: the labels of the scale are on its left, those of the time below."""

GOOD_RATE = 0.9
"""The least success rate that is no cause for concern."""

GOOD_OVERHEAD = 0.05

STEPS = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds at which the scale of durations may end."""


def chart_cards(minutes: Sequence[Minute]) -> tuple[ChartCard, ...]:
    """The three charts of *minutes*, as ``Monitor.minutes`` gives them."""
    return _success_rate(minutes), _recovery(minutes), _overhead(minutes)


def _success_rate(minutes: Sequence[Minute]) -> ChartCard:
    rates = [one.success_rate for one in minutes]
    calls, successes = sum(one.calls for one in minutes), sum(one.successes for one in minutes)
    words = f"{successes} of {counted(calls, 'call')} succeeded ({_percent(successes / calls)})" if calls else ""
    bars = _bars(rates, 1.0, lambda rate: "bar low" if rate < GOOD_RATE else "bar good")
    return _card("success", "Success rate", words or "No call has ended.", bars, "100 %")


def _recovery(minutes: Sequence[Minute]) -> ChartCard:
    seen = [one.recovery for one in minutes]
    known = [one for one in seen if one is not None]
    number = sum(one.count for one in known)
    longest = max((one.p95 for one in known), default=0.0)
    top = next((step for step in STEPS if step >= longest), longest)
    bars = _bars([None if one is None else one.p95 for one in seen], top, lambda _: "bar soft")
    bars += _bars([None if one is None else one.p50 for one in seen], top, lambda _: "bar")
    words = "No call had to recover."
    if number:
        mean = sum(one.count * one.mean for one in known) / number
        words = f"{counted(number, 'call')} recovered, in {duration(mean)} on average (bars: median and 95 %)"
    return _card("recovery", "Time to recover", words, bars, duration(top))


def _overhead(minutes: Sequence[Minute]) -> ChartCard:
    shares = [one.overhead for one in minutes]
    known = [share for share in shares if share is not None]
    top = max((GOOD_OVERHEAD, *known))
    words = f"Latest {_percent(known[-1])}, most {_percent(max(known))}" if known else "Not measured yet."
    bars = _bars(shares, top, lambda share: "bar low" if share > GOOD_OVERHEAD else "bar")
    return _card("overhead", "Overhead of recovery", words, bars, _percent(top))


def _percent(share: float) -> str:
    """A share for people: ``99.2 %``; it is 0 or 100 only if it is exactly that."""
    percent = share * 100.0
    if 99.0 < percent < 100.0:
        percent = min(percent, 99.9)
    elif 0.0 < percent < 0.1:
        return "under 0.1 %"
    return (
        f"{percent:.0f} %" if percent >= 10.0 and percent == round(percent) else f"{percent:.1f} %".replace(".0 ", " ")
    )


def _bars(values: Sequence[float | None], top: float, kind: Callable[[float], str]) -> str:
    """A bar for each value that is known, at least a pixel high."""
    step = (WIDTH - LEFT) / max(len(values), 1)
    drawn = []
    for index, value in enumerate(values):
        if value is None or top <= 0.0:
            continue
        height = max((BOTTOM - TOP) * min(value / top, 1.0), 1.0)
        drawn.append(
            f'<rect class="{kind(value)}" x="{LEFT + index * step:.1f}" y="{BOTTOM - height:.1f}"'
            f' width="{step * 0.75:.1f}" height="{height:.1f}"/>'
        )
    return "".join(drawn)


def _card(name: str, title: str, summary: str, bars: str, top: str) -> ChartCard:
    scale = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>'
        f'<text class="end" x="{LEFT - 6}" y="{y + 4}">{text}</text>'
        for y, text in ((TOP, top), (BOTTOM, "0"))
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-labelledby="chart-{name}-title chart-{name}-desc">'
        f'<title id="chart-{name}-title">{title}</title><desc id="chart-{name}-desc">{summary}</desc>{scale}{bars}'
        f'<text x="{LEFT}" y="{HEIGHT - 5}">60 min ago</text>'
        f'<text class="end" x="{WIDTH}" y="{HEIGHT - 5}">now</text></svg>'
    )
    return ChartCard(name=name, title=title, svg=svg, summary=summary)
