"""docs/reference/causes.md lists every cause, with the rules that lead to it."""

from __future__ import annotations

from recovery.policies.sentences import ENGLISH
from tests.docs.causes_page import BEGIN, PAGE, rules_by_cause, tables


def test_the_tables_of_the_page_are_those_of_the_code():
    assert PAGE.read_text(encoding="utf-8").partition(BEGIN)[2] == tables(), "run `python -m tests.docs.causes_page`"


def test_every_rule_of_the_page_leads_to_a_cause_that_exists():
    assert rules_by_cause().keys() <= ENGLISH.keys()
