"""docs/reference/metrics.md, the alert rules and the dashboard name what the collector has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import adapters.metrics
from adapters.metrics.families import FAMILIES, JOURNAL_RESULTS, OUTCOMES
from adapters.metrics.tracing import OUTCOMES as SPAN_OUTCOMES
from events.evidence import Category
from tests.docs.metrics_page import PAGE, written

TEXT = PAGE.read_text(encoding="utf-8")
SHIPPED = Path(adapters.metrics.__file__).parent
RULES = (SHIPPED / "alerts.yml").read_text(encoding="utf-8")
DASHBOARD = (SHIPPED / "dashboard.json").read_text(encoding="utf-8")
LABELS = {label for one in FAMILIES for label in one.labels}


def expressions() -> str:
    queries = [target["expr"] for panel in json.loads(DASHBOARD)["panels"] for target in panel["targets"]]
    return "\n".join((*queries, RULES))


def test_the_page_has_every_metric_and_label():
    assert written(TEXT) == TEXT, "run `python -m tests.docs.metrics_page`"


def test_the_rules_and_the_dashboard_ask_for_metrics_that_exist():
    parts = ("", "_bucket", "_sum", "_count")
    known = {f"{one.shown}{part}" for one in FAMILIES for part in parts if not part or one.kind == "histogram"}
    asked = set(re.findall(r"(?<![:\w])recovery_\w+", expressions()))
    assert asked <= known
    assert {one.shown for one in FAMILIES if one.kind == "histogram"} - {
        re.sub("_bucket$", "", one) for one in asked
    } == set()


def test_the_rules_and_the_dashboard_ask_for_labels_and_values_that_exist():
    text = expressions()
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", text) for label in group.split(", ")}
    assert grouped <= LABELS | {"job", "instance", "le"}
    values = {*OUTCOMES, *JOURNAL_RESULTS, *Category}
    chosen = {
        value for group in re.findall(r'(?:outcome|result|category)!?=~?"([^"]*)"', text) for value in group.split("|")
    }
    assert chosen <= values


def test_the_page_explains_every_rule_with_its_severity():
    alerts = re.findall(r"- alert: (\w+).*?severity: (\w+)", RULES, re.DOTALL)
    assert re.findall(r"^\| `(Recovery\w+)` \| `(\w+)` \|", TEXT, re.MULTILINE) == alerts
    records = re.findall(r"- record: ([\w:]+)", RULES)
    assert re.findall(r"^\| `(recovery:[\w:]+)` \|", TEXT, re.MULTILINE) == records
    assert (len(alerts), len(alerts) + len(records)) == (10, 12)  # as the text says


def test_each_panel_has_a_place_of_its_own():
    taken = [
        (x, y)
        for panel in json.loads(DASHBOARD)["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert all(x < 24 for x, _ in taken)


def test_the_outcomes_of_spans_are_those_of_metrics_and_of_calls_that_are_not_over():
    assert set(SPAN_OUTCOMES.values()) - set(OUTCOMES) == {"interrupted", "quarantined", "handed_back"}
