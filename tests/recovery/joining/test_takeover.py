"""A process that waits for another one's call goes on with it, and with the calls that its body had made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.sqlite.test_kill import child, eventually

NESTED = """
import os, sys, time
from adapters.sqlite import SQLiteStore
from recovery import Recovery, context

with Recovery(store=SQLiteStore(sys.argv[1])) as service:

    @service.recoverable("count", resumable=True)
    def count(upto):
        start = context.saved(default=0)
        if upto == 10:
            print(os.getpid(), "counts from", start, context.key(), flush=True)
        for number in range(start, upto):
            context.checkpoint(number + 1)
            if number == 4 and sys.argv[2] == "stays":
                service.journal.receipt().wait()
                print("stays", flush=True)
                time.sleep(60)
        return upto

    @service.recoverable("launch", resumable=True)
    def launch():
        return count(10)

    service.resume()
    count(1)  # so that this process has asked which calls of count are left
    print("got", launch(), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
@pytest.mark.slow
def test_who_takes_over_a_call_goes_on_with_the_calls_of_its_body(tmp_path: Path) -> None:
    first, second, journal = tmp_path / "first", tmp_path / "second", tmp_path / "calls.db"
    with child(first, "-c", NESTED, journal, "stays") as holder:
        eventually(lambda: "stays" in first.read_text())
        with child(second, "-c", NESTED, journal, "counts") as waiting:
            eventually(lambda: "runs an equal call" in second.read_text())
            holder.kill()
            holder.wait(10)
            assert waiting.wait(20) == 0, second.read_text()
    [begun] = [line.split() for line in first.read_text().splitlines() if "counts from" in line]
    [went_on] = [line.split() for line in second.read_text().splitlines() if "counts from" in line]
    assert (begun[3], went_on[3], went_on[4]) == ("0", "5", begun[4])
    assert "got 10" in second.read_text()
    again = subprocess.run(
        [sys.executable, "-c", NESTED, journal, "counts"], capture_output=True, text=True, check=True
    )
    assert "counts from 0" in again.stdout  # nothing was left pending
