"""The list of bugs to plant is true of the tree: `make mutants` plants them, which takes minutes."""

from __future__ import annotations

import pytest

from tests.mutants import ROOT, Mutant, mutants

EVERY = mutants([])


@pytest.mark.parametrize("mutant", EVERY, ids=[mutant.law for mutant in EVERY])
def test_a_bug_can_be_planted_in_one_place_and_has_a_test_to_see_it(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) >= 1
    assert mutant.old != mutant.new
    compile(source.replace(mutant.old, mutant.new, 1), mutant.file, "exec")
    paths = [word for word in mutant.test.split() if word.startswith("tests/")]
    assert paths
    assert all((ROOT / path).is_file() for path in paths)


def test_no_law_is_named_twice() -> None:
    assert len({mutant.law for mutant in EVERY}) == len(EVERY)
