from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from bench.machine import Machine
from bench.measure import Spread
from bench.report.figures import Figures
from bench.report.recommendations import PRESETS
from bench.report.summary import MISSED_GOALS
from bench.report.write import CHARTS, in_markdown
from bench.row import Row, most
from bench.run import Group, Run
from recovery import presets
from recovery.monitoring.monitor import WAITING_CALL_BYTES

DOCS = Path(__file__).parents[2] / "docs" / "explanation"
MACHINE = Machine(
    cpu="a processor", cores=2, memory_gib=24.0, load=0.5, kernel="a kernel", python="3.11", sqlite="3.40",
    date="2026-01-01", version="0.1.0", libraries={"anyio": "4"}, peers={"tenacity": "9", "dbos": None},
)  # fmt: skip


def run_with(*rows: Row, error: str = "") -> Run:
    return Run("full", MACHINE, [Group("success", "A call that succeeds", 1.0, list(rows), error)])


def test_a_missed_goal_is_in_the_summary_with_its_figure():
    row = Row(key="failure", what="one failure", unit="µs", measured=Spread(29.0, 30.0, 31.0, 25), goal=most(10.0))
    text = in_markdown(Figures(run_with(row)), set())
    assert "- one failure: 30.0 µs (29.0 to 31.0), goal ≤ 10.0 µs." in text


def test_a_group_that_broke_is_named_and_its_rows_are_not_measured():
    text = in_markdown(Figures(run_with(error="it broke")), set())
    assert "- A call that succeeds: it broke" in text
    assert "A call that succeeds costs not measured" in text
    assert "Not installed in this run, and therefore not measured: dbos." in text


def test_only_charts_that_were_drawn_are_shown():
    assert "charts/" not in in_markdown(Figures(run_with()), set())
    assert "![" + CHARTS["peers"] + "](charts/peers.svg)" in in_markdown(Figures(run_with()), {"peers"})


made = pytest.mark.skipif(not (DOCS / "performance.json").exists(), reason="make report has not been run")


@pytest.fixture(scope="module")
def released() -> Run:
    return msgspec.json.decode((DOCS / "performance.json").read_bytes(), type=Run)


@made
def test_the_released_report_is_of_a_full_run_with_every_chart(released: Run):
    assert released.effort == "full"
    assert not [group.name for group in released.groups if group.error]
    charts = {chart.stem for chart in (DOCS / "charts").glob("*.svg")}
    assert charts == set(CHARTS)
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert page == in_markdown(Figures(released), charts), "python -m bench page writes it again"


@made
def test_the_monitor_estimates_a_waiting_call_as_it_was_measured(released: Run):
    measured = released.rows["memory-waiting"].measured
    assert pytest.approx(measured.middle * 1000, rel=0.1) == WAITING_CALL_BYTES


@made
def test_each_choice_of_a_preset_has_a_measured_row(released: Run):
    rows = {f"feature-{choice.row}" for choices in PRESETS.values() for choice in choices}
    assert [row for name in rows for row in (name, f"{name}-failure") if released.rows[row].measured is None] == []


def test_every_preset_is_recommended_with_reasons():
    assert all(callable(getattr(presets, name)) for name in PRESETS)
    for choices in PRESETS.values():
        assert all(choice.value and choice.why for choice in choices)
        assert len({choice.what for choice in choices}) == len(choices)


@made
@pytest.mark.parametrize("name", ["performance.md", "performance.json", *(f"charts/{chart}.svg" for chart in CHARTS)])
def test_the_report_contains_no_path_of_a_machine(name: str):
    text = (DOCS / name).read_text(encoding="utf-8")
    assert not re.findall(r"/(?:work|tmp|root|home|usr|opt)\b[\w/.-]*", text)


@made
def test_an_explained_miss_is_a_row_with_a_goal(released: Run):
    explained = tomllib.loads(MISSED_GOALS.read_text(encoding="utf-8"))
    judged = {key for key, row in released.rows.items() if row.goal is not None}
    assert set(explained) <= judged
