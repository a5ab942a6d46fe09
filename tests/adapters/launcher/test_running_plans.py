"""Plans that may run any number of times: what is there is not done again, and what is optional may fail."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.adapters.test_cli import command, recovery, touch, write_plan

FAILS = (sys.executable, "-S", "-c", "import sys; sys.exit('fatal: no luck')")
NEVER = {"max_retries": 0}


def test_an_optional_operation_may_fail_and_what_needs_it_begins(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, command("lora", *FAILS, optional=True), touch("after", needs=["lora"]))
    ended = recovery("run", plan)
    assert (ended.code, ended.errors) == (0, "")
    assert ended.out.splitlines()[-1] == "done, with 1 optional operation failed: lora"
    status = " ".join(recovery("status", plan).out.split())
    assert "succeeded launch" in status
    assert "done: 1 of 2, 1 failed failed: lora (optional)" in status


def test_the_last_line_and_the_exit_code_of_a_failed_launch_agree(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, touch("good"), command("bad", *FAILS), touch("after", needs=["bad"]))
    ended = recovery("run", plan)
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "1 of 3 operations done; failed: bad; skipped: after")
    assert "succeeded" not in ended.out
