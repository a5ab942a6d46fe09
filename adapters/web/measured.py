"""What a monitor measures, for the page: alerts, charts and metrics, each read no more often than it changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from adapters.web import cards
from adapters.web.charts import chart_cards
from adapters.web.state import AlertCard, ChartCard
from recovery.service import Recovery

if TYPE_CHECKING:
    from adapters.metrics.prometheus import RecoveryCollector
    from recovery.monitoring.monitor import Monitor

ALERTS_EVERY = 2.0
CHARTS_EVERY = 10.0
"""Seconds between two readings."""


class Measured:
    """The alerts, the charts and the metrics of *service*, whose *monitor* counts."""

    def __init__(self, service: Recovery, monitor: Monitor) -> None:
        self._service = service
        self._monitor = monitor
        self._collector = _collector(service)
        self._alerts: tuple[AlertCard, ...] = ()
        self._charts: tuple[ChartCard, ...] = ()
        self._alerts_due = self._charts_due = 0.0

    def alerts(self, offset: float) -> tuple[AlertCard, ...]:
        """The alerts that are on; *offset* makes times of the service's clock Unix times."""
        now = time.monotonic()
        if now >= self._alerts_due:
            self._alerts_due = now + ALERTS_EVERY
            raised = self._monitor.totals().alerts
            self._alerts = tuple(cards.alert_card(alert, round(alert.at + offset, 1)) for alert in raised)
        return self._alerts

    def charts(self) -> tuple[ChartCard, ...]:
        """The last hour."""
        now = time.monotonic()
        if now >= self._charts_due:
            self._charts_due = now + CHARTS_EVERY
            self._charts = chart_cards(self._monitor.minutes())
        return self._charts

    def metrics(self, accept: str) -> tuple[str, bytes] | None:
        """The content type and the text of the metrics; None without the extra ``prometheus``."""
        if self._collector is None:
            return None
        from adapters.metrics.prometheus import render  # here, for those that have the extra

        return render(self._collector, accept)


def _collector(service: Recovery) -> RecoveryCollector | None:
    try:
        from adapters.metrics.prometheus import RecoveryCollector
    except ModuleNotFoundError:
        return None
    return RecoveryCollector(service)
