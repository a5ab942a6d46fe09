"""docs/explanation/failures.md: every failure is under test, or the page says in one line why it is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "explanation" / "failures.md").read_text(encoding="utf-8")
HEAD = ["what is seen", "what happens", "test"]
ROWS = [[cell.strip() for cell in line[1:-1].split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
FAILURES = [row for row in ROWS if row != HEAD]


@pytest.mark.parametrize("row", FAILURES, ids=[row[0][:50] for row in FAILURES])
def test_a_failure_has_tests_that_exist_or_says_why_not(row: list[str]):
    seen, happens, test = row
    assert seen
    assert happens
    reason = re.match(r"none(?: for [^:`]+)?: [^:`;]+", test)
    named = [name.split("::") for name in re.findall("`([^`]*)`", test)]
    assert named or reason
    missing = [(path, name) for path, name in named if not re.search(rf"def {name}\(", (ROOT / path).read_text())]
    assert not missing
    assert all(name.startswith("test_") for _, name in named)


def test_each_section_has_a_table():
    assert PAGE.count("\n## ") == ROWS.count(HEAD) > 0
