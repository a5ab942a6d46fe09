"""Each bug of ``mutants.toml`` has its place and its test; `make mutants`, which takes minutes, plants them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cache
from pathlib import Path

import pytest

from tests.mutants import ROOT, Mutant, mutants

EVERY = mutants()


@cache
def text_of(place: Path) -> tuple[str, list[int]]:
    """The text of a file, and where its lines that are not indented begin, and where it ends."""
    text = (ROOT / place).read_text(encoding="utf-8")
    return text, [*(found.start() for found in re.finditer(r"^\S", text, re.MULTILINE)), len(text)]


@pytest.mark.parametrize("mutant", EVERY, ids=[mutant.law for mutant in EVERY])
def test_a_bug_has_one_place_and_one_test(mutant: Mutant):
    source, tops = text_of(mutant.place())
    begins = source.index(mutant.old)
    ends = begins + len(mutant.old)
    top, below = tops[bisect_right(tops, begins) - 1], tops[bisect_left(tops, ends)]
    try:
        compile(source[top:begins] + mutant.new + source[ends:below], "<statement>", "exec")
    except SyntaxError:  # it may be a part of one alone
        compile(source[:begins] + mutant.new + source[ends:], str(mutant.place()), "exec")
    assert mutant.old != mutant.new
    assert mutant.node()


def test_no_law_is_named_twice():
    assert len({mutant.law for mutant in EVERY}) == len(EVERY)
