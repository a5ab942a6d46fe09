from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from bench import regression_gate
from bench.measure import GATE, Spread, exact, interleave, plain
from bench.regression_gate import StaleBaselineError, check, cost, is_worse
from bench.row import Row, least, most
from bench.run import GATED_GROUPS


def tight(middle: float) -> Spread:
    return Spread(middle * 0.99, middle, middle * 1.01, 25)


class Tries:
    """A measurement with prepared answers, one for each try; it records the keys it was asked for."""

    def __init__(self, *answers: dict[str, Spread]) -> None:
        self._answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, keys: Iterable[str]) -> dict[str, Spread]:
        self.asked.append(list(keys))
        return self._answers.pop(0)


@pytest.mark.parametrize(("low", "worse"), [(1.21, True), (1.19, False)])
def test_a_ratio_is_worse_if_its_better_edge_is_over_the_limit(low: float, worse: bool):
    assert is_worse(Spread(low, 1.3, 1.4, 25), 1.0) is worse


@pytest.mark.parametrize(("count", "fails"), [(61.0, False), (62.0, False), (63.0, True)])
def test_a_count_may_not_grow(count: float, fails: bool):
    [finding] = check({"calls": 62.0}, Tries(*[{"calls": exact(count)}] * 3))
    assert finding.is_worse is fails
    assert finding.line.split() == ["WORSE" if fails else "ok", "calls", "62", "->", f"{count:.0f}"]


def test_a_ratio_that_is_worse_in_each_of_three_tries_is_found():
    tries = Tries(*[{"a": tight(1.3), "b": tight(1.0)}] * 3)
    findings = {finding.key: finding.is_worse for finding in check({"a": 1.0, "b": 1.0}, tries)}
    assert findings == {"a": True, "b": False}
    assert tries.asked == [["a", "b"], ["a"], ["a"]]


def test_one_good_try_of_three_clears_a_suspect():
    tries = Tries({"a": tight(1.3)}, {"a": tight(1.3)}, {"a": tight(1.1)})
    [finding] = check({"a": 1.0}, tries)
    assert not finding.is_worse
    assert finding.now == tight(1.1)


def test_a_suspect_must_be_worse_in_all_tries_not_others_in_turn():
    tries = Tries({"a": tight(1.3), "b": tight(1.0)}, {"a": tight(1.0), "b": tight(1.3)})
    assert not any(finding.is_worse for finding in check({"a": 1.0, "b": 1.0}, tries))


def test_a_share_that_should_be_great_is_worse_when_it_is_smaller():
    share = Row(key="share", what="", unit="x", measured=Spread(0.4, 0.5, 0.8, 25), goal=least(0.5))
    assert cost(share) == Spread(1.25, 2.0, 2.5, 25)
    assert cost(msgspec.structs.replace(share, goal=most(0.5))) == share.measured
    assert cost(msgspec.structs.replace(share, measured=None)) is None


def test_a_better_ratio_passes():
    [finding] = check({"a": 1.0}, Tries({"a": tight(0.5)}))
    assert not finding.is_worse
    assert "-50 %" in finding.line


@pytest.mark.parametrize("found", [{"a": tight(1.0)}, {"a": tight(1.0), "b": tight(1.0), "c": tight(1.0)}])
def test_a_baseline_with_other_keys_is_refused(found: dict[str, Spread]):
    with pytest.raises(StaleBaselineError, match="make bench-baseline"):
        check({"a": 1.0, "b": 1.0}, Tries(found))


def test_a_baseline_that_is_written_is_the_median_of_several_runs(tmp_path: Path):
    path = tmp_path / "baseline.json"
    regression_gate.write([{"b": tight(2.0), "a": tight(middle)} for middle in (3.0, 1.0, 1.1)], path)
    assert regression_gate.read(path) == {"a": 1.1, "b": 2.0}


def test_the_baseline_of_the_tree_has_every_figure_of_the_gate():
    assert set(regression_gate.read()) == {key for keys in GATED_GROUPS.values() for key in keys}


WRAPPER = Spread(1.459, 1.502, 1.535, 50)
"""The sync wrapper as the gate measured it, on two cores shared with other processes."""


@pytest.mark.parametrize(("slower", "fails"), [(1.0, False), (1.1, False), (1.3, True)])
def test_a_wrapper_slower_by_30_percent_fails_and_one_by_10_passes(slower: float, fails: bool):
    [finding] = check({"wrapper": 1.502}, Tries(*[{"wrapper": WRAPPER.scaled(slower)}] * 3))
    assert finding.is_worse is fails


def test_the_gate_measures_processor_time_not_elapsed_time():
    began = time.perf_counter()
    taken = interleave({"waits": plain(lambda: time.sleep(0.001), GATE.clock)}, 3, times=3)["waits"]
    assert time.perf_counter() - began >= 0.009
    assert max(taken) < 0.001
