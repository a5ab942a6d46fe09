"""The tasks of test_celery.py: each body notes that it has begun."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init, worker_process_init, worker_process_shutdown, worker_shutdown

from adapters.sqlite import SQLiteStore
from recovery import Recovery, context

for folder in ("queue", "results"):
    Path(folder).mkdir(exist_ok=True)
app = Celery("worker_tasks", broker="filesystem://", backend="file://results")
app.conf.update(
    broker_transport_options=dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), "queue"),
    beat_schedule={"beat": {"task": "worker_tasks.by_beat", "schedule": 0.5}},
    beat_schedule_filename="beat",
    worker_lost_wait=1.0,
    worker_prefetch_multiplier=1,
)
service = Recovery(store=SQLiteStore("journal.db"))
for begins in (worker_init, worker_process_init):
    if (begins is worker_init) == ("IN_ONE_PROCESS" in os.environ):
        begins.connect(lambda **_: service.resume(), weak=False)
for ends in (worker_shutdown, worker_process_shutdown):
    ends.connect(lambda **_: service.close(), weak=False)


def note(text: str) -> None:
    with Path("notes").open("a") as notes:
        notes.write(f"{text}\n")


@app.task(bind=True, acks_late=True)
@service.recoverable("steered", initial_delay=0.01, retry_on=Exception)
def steered(self: Any, how: str) -> str:
    note(how)
    if how == "retry" and not self.request.retries:
        raise self.retry(countdown=0)
    if how == "ignore":
        raise Ignore
    if how == "reject":
        raise Reject("not wanted", requeue=False)
    return how


@app.task(bind=True, max_retries=1)
@service.recoverable("used up", initial_delay=0.01)
def used_up(self: Any) -> None:
    note("used up")
    raise self.retry(countdown=0)


@app.task(soft_time_limit=0.5)
@service.recoverable("slow", initial_delay=0.01)
def slow() -> None:
    note("slow")
    time.sleep(30)


@app.task(soft_time_limit=0.5)
@service.recoverable("waits", initial_delay=30.0, jitter="none")
def waits() -> None:
    note("waits")
    raise ConnectionError("down")


@app.task
@service.recoverable("waits long", initial_delay=30.0, jitter="none")
def waits_long() -> None:
    note("waits long")
    raise ConnectionError("down")


@app.task
@service.recoverable("waits a second", initial_delay=1.5, jitter="none")
def waits_a_second() -> str:
    note("waits a second")
    if context.attempt() == 1:
        raise ConnectionError("down")
    return "done"


@app.task(acks_late=True, reject_on_worker_lost=True)
@service.recoverable("dies", resumable=True, idempotency_key=lambda name, pause: name, remember=600.0)
def dies(name: str, pause: float) -> str:
    start = context.saved(default=0)
    for number in range(start, 5):
        note(f"{name} {number}")
        context.checkpoint(number + 1)
        if number == 2 and not start:
            assert service.journal is not None
            service.journal.receipt().wait()
            os.kill(os.getpid(), 9)
        time.sleep(pause if start else 0.0)
    return name


@app.task
@service.recoverable("by beat")
def by_beat() -> None:
    note("by beat")
