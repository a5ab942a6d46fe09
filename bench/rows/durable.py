"""One durable call (start committed before it begins, end before it returns), against a DBOS workflow of one step.

DBOS is a durable execution engine, which does more with each call than a journal does. It is the usual alternative for
resuming after a crash. SQLite is its system database here.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.measure import Effort, Timed, interleave, plain, spread
from bench.row import Row
from bench.workloads import do_nothing, journalled, scratch
from recovery import Recovery


def measure(effort: Effort) -> list[Row]:
    rounds = max(effort.rounds // 2, 25)
    with ExitStack() as stack:
        service = stack.enter_context(journalled())
        candidates: dict[str, Timed] = {"strict": plain(_recoverable(service, "strict"))}
        candidates["journal"] = plain(_recoverable(service, "journal"))
        if importlib.util.find_spec("dbos") is not None:
            path = stack.enter_context(scratch("dbos.sqlite"))
            candidates["dbos"] = plain(_dbos_workflow(path, stack))
        times = interleave(candidates, rounds, times=5)
    found = {name: spread(taken).scaled(1e6) for name, taken in times.items()}
    return [
        Row(
            key="durable",
            what="one durable call that succeeds, strict mode: start committed before, end after",
            unit="µs",
            measured=found.pop("strict"),
            peers=found,
            note="" if "dbos" in found else "DBOS is not installed",
        )
    ]


def _recoverable(service: Recovery, mode: Any) -> Callable[[], None]:
    return service.recoverable(f"durable {mode}", durability=mode)(do_nothing)


def _dbos_workflow(path: Path, stack: ExitStack) -> Callable[[], None]:
    from dbos import DBOS

    logging.getLogger("dbos").setLevel(logging.ERROR)
    settings: Any = {
        "name": "bench",
        "system_database_url": f"sqlite:///{path}",
        "log_level": "ERROR",
        "run_admin_server": False,
    }
    DBOS(config=settings)

    @DBOS.step(retries_allowed=True, max_attempts=4, interval_seconds=0.0)
    def step() -> None:
        return do_nothing()

    @DBOS.workflow()
    def workflow() -> None:
        return step()

    DBOS.launch()
    stack.callback(DBOS.destroy)
    return workflow
