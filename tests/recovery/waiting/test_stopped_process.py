"""A real process that gets SIGSTOP while calls of it wait and run, and SIGCONT later."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

STOPPED = 0.9
CHILD = """
import asyncio, functools, json, os, threading, time
from events import ClockJumped, FailureClassified
from recovery import Recovery, RetryPolicy
from recovery.policies.backoff import Constant

class Clock:
    least_jump = 0.4
    boottime = functools.partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
    process_time = time.process_time

    def __call__(self):
        return time.monotonic()

def note(failure):
    failures[failure.operation, failure.attempt] = failure.uncharged

policy = RetryPolicy(backoff=Constant(0.3), jitter="none", max_retries=1)
service = Recovery(clock=Clock(), policy=policy, enable_logging=False, breaker=None)
jumps, failures, starts = [], {}, []
service.bus.subscribe(ClockJumped, jumps.append)
service.bus.subscribe(FailureClassified, note)
key = lambda number: f"host-{number % 3}"

@service.recoverable("task", key=key)
async def task(number):
    starts.append(("task", number))
    raise ConnectionError("reset")

@service.recoverable("thread", key=key)
def thread(number):
    starts.append(("thread", number))
    raise ConnectionError("reset")

@service.recoverable("under way", attempt_timeout=0.5)
async def under_way():
    await asyncio.sleep(0.6 if failures.get(("under way", 1)) is None else 9.0)
    raise ConnectionError("reset")

async def main():
    tasks = [asyncio.create_task(call) for call in (under_way(), *(task(number) for number in range(9)))]
    threads = [threading.Thread(target=thread, args=(number,), daemon=True) for number in range(3)]
    for one in threads:
        one.start()
    while len(starts) < 12:
        await asyncio.sleep(0.001)
    starts.clear()
    print("ready", flush=True)
    while not jumps:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.4)
    print(json.dumps({
        "kinds": [jump.kind for jump in jumps],
        "slept": jumps[0].slept,
        "begun": len(set(starts)),
        "under way": failures.get(("under way", 1)),
    }), flush=True)
    os._exit(0)

threading.excepthook = lambda _: None
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it has no SIGSTOP")
@pytest.mark.slow
def test_calls_of_a_process_that_was_stopped_come_back_staggered() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGSTOP)
        time.sleep(STOPPED)
        child.send_signal(signal.SIGCONT)
        told: dict[str, Any] = json.loads(child.stdout.readline())
    assert told["kinds"] == ["stopped"]
    assert told["slept"] == pytest.approx(STOPPED - 0.25, abs=0.3)
    assert told["begun"] == 6  # of nine tasks and three threads: one of each operation and key
    assert told["under way"] is True  # its timeout began again, so that it failed by itself, and used no retry
