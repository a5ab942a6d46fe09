"""docs/reference/exceptions.md draws every exception class of the library, and says when it is raised."""

from __future__ import annotations

import re
from collections import Counter

from tests.docs.exceptions_page import PAGE, TREE, every_error, tree
from tests.test_pickling import ERRORS

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[`(\w+)`\]\(\S+\)(?:: (.+?))? \| (.+?) \| (.+?) \|$", TEXT, re.MULTILINE)
"""The name, its attributes, when it is raised, what to do."""


def test_the_tree_is_that_of_the_classes() -> None:
    assert TREE.findall(TEXT) == [tree()], "run `python -m tests.docs.exceptions_page`"


def test_every_error_has_one_row() -> None:
    assert Counter(row[0] for row in ROWS) == Counter(kind.__name__ for kind in every_error())


def test_every_row_says_when_it_is_raised_and_what_to_do() -> None:
    for error, _, when, action in ROWS:
        assert when.endswith("."), error
        assert action.endswith("."), error


def test_every_row_names_the_attributes() -> None:
    known: dict[str, set[str]] = {"StoppedBySignal": {"signal"}, "ConfigurationError": set()}
    for error in ERRORS:
        known.setdefault(type(error).__name__, set()).update(set(vars(error)) - {"__notes__"})
    for error, attributes, _, _ in ROWS:
        assert set(re.findall(r"`(\w+)`", attributes)) == known[error], error
