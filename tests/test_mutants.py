"""Each bug of ``mutants.toml`` has its place and its test; `make mutants`, which takes minutes, plants them."""

from __future__ import annotations

import pytest

from tests.mutants import ROOT, Mutant, mutants

EVERY = mutants()


@pytest.mark.parametrize("mutant", EVERY, ids=[mutant.law for mutant in EVERY])
def test_a_bug_has_one_place_and_one_test(mutant: Mutant):
    place = ROOT / mutant.place()
    compile(place.read_text(encoding="utf-8").replace(mutant.old, mutant.new), str(place), "exec")
    assert mutant.old != mutant.new
    assert mutant.node()


def test_no_law_is_named_twice():
    assert len({mutant.law for mutant in EVERY}) == len(EVERY)
