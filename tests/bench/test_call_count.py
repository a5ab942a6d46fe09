from __future__ import annotations

import textwrap
from typing import Literal

import pytest

from bench.measure import GATE
from bench.rows import call_count
from bench.rows.call_count import count
from events.verdicts import GiveUp, Park, Retry, join


def test_calls_of_python_functions_are_counted_those_of_ours_by_file():
    retry, give_up = Retry(), GiveUp("enough")
    counted = count(lambda: (join(retry, give_up), textwrap.dedent("text")))
    assert counted.files == counted.moves == 1
    assert counted.calls > count(lambda: join(retry, give_up)).calls


def test_a_function_outside_the_packages_counts_as_a_call_only():
    assert count(lambda: textwrap.shorten("a text", 10)).files == 0


def test_the_same_call_gives_the_same_count():
    assert len({count(lambda: join(Retry(), Park(after=1.0))) for _ in range(5)}) == 1


@pytest.mark.parametrize("mode", ["lazy", "journal"])
def test_a_failing_call_has_the_same_count_each_time(mode: Literal["lazy", "journal"]):
    first = call_count.of_mode(mode)
    assert first == call_count.of_mode(mode)
    assert first.calls > first.moves > first.files > 0


def test_the_rows_have_goals_and_exact_figures():
    rows = call_count.measure(GATE)
    assert all(row.goal is not None and row.measured is not None and row.measured.is_exact for row in rows)
