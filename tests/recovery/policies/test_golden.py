from __future__ import annotations

import errno
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from events.evidence import Category, Evidence
from recovery.policies.classification import classify_evidence
from recovery.policies.error_messages import PROCESSES, match_error_message

TABLE = tomllib.loads((Path(__file__).parents[2] / "golden" / "failures.toml").read_text(encoding="utf-8"))["failure"]


def evidence_of(failure: dict[str, Any]) -> Evidence:
    known = {name: value for name, value in failure.items() if name not in ("name", "category", "sentence", "said")}
    known.setdefault("type", "subprocess.CalledProcessError")
    known["kinds"] = tuple(known.get("kinds", ()))
    if "errno" in known:
        known["errno"] = getattr(errno, known["errno"])
    return Evidence(**known)


@pytest.mark.parametrize("failure", TABLE, ids=[failure["name"] for failure in TABLE])
def test_a_real_failure_has_its_category(failure: dict[str, Any]) -> None:
    assert classify_evidence(evidence_of(failure)).category is Category(failure["category"])


def test_the_table_holds_at_least_eighty_failures() -> None:
    assert len({failure["name"] for failure in TABLE}) == len(TABLE) >= 80


@cache
def processes_of_the_table() -> set[str]:
    said = [failure["stderr"] for failure in TABLE if "stderr" in failure]
    return {rule.name for text in said if (rule := match_error_message(text))}


@pytest.mark.parametrize("process", PROCESSES, ids=[process.name for process in PROCESSES])
def test_every_error_message_has_an_example_in_the_table(process: Any) -> None:
    assert process.name in processes_of_the_table()


@pytest.mark.parametrize("text", ["repository " * 400, "failed to fetch " * 250, "cuda " * 800, "index.lock" * 400])
def test_long_error_messages_are_matched_quickly(text: str) -> None:
    import time

    began = time.perf_counter()
    match_error_message(text[:4096])
    assert time.perf_counter() - began < 0.25
