from __future__ import annotations

import textwrap

from bench.measure import GATE
from bench.rows import call_count
from bench.rows.call_count import count
from bench.run import GATED_GROUPS
from events.verdicts import GiveUp, Park, Retry, join


def test_calls_of_python_functions_are_counted_those_of_ours_by_file():
    retry, give_up = Retry(), GiveUp("enough")
    counted = count(lambda: (join(retry, give_up), textwrap.dedent("text")))
    assert counted.files == 1
    assert counted.calls > count(lambda: join(retry, give_up)).calls


def test_a_function_outside_the_packages_counts_as_a_call_only():
    assert count(lambda: textwrap.shorten("a text", 10)).files == 0


def test_the_same_call_gives_the_same_count():
    assert len({count(lambda: join(Retry(), Park(after=1.0))) for _ in range(5)}) == 1


def test_a_call_has_the_same_count_each_time():
    first = call_count.by_name()
    assert first == call_count.by_name()
    assert all(one.calls >= one.files > 0 for one in first.values())


def test_the_rows_are_those_that_the_gate_checks_and_exact():
    rows = call_count.measure(GATE)
    assert tuple(row.key for row in rows) == GATED_GROUPS["call_count"]
    assert all(row.measured is not None and row.measured.is_exact for row in rows)
