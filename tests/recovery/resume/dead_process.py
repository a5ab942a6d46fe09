"""Processes that die in a call of "work", and the next process that resumes it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from adapters.memory import MemoryStore
from events.event import Event
from recovery import context
from recovery.resume.handles import Resumption
from recovery.service import Recovery
from recovery.testing import Script
from recovery.waiting.waiters import Clock

SETTINGS: dict[str, Any] = {"resumable": True, "initial_delay": 0.0}


class Killed(BaseException):
    """Stands for a kill -9: nothing after it is written."""


def kill(service: Recovery) -> None:
    """End the process: nothing more is written, and the function goes no further."""
    assert service.journal is not None
    service.journal.seal()
    raise Killed


def kill_at(service: Recovery, *kinds: type[Event]) -> None:
    """End the process as soon as an event of these kinds is published."""
    service.bus.subscribe(kinds, lambda _: kill(service))


def leave(
    store: MemoryStore, *args: Any, body: Callable[[], object] = lambda: None, failures: int = 0, **settings: Any
) -> None:
    """Leave a call in *store*, as a process does that is killed in its attempt after *failures*."""
    service = Recovery(store=store)

    @service.recoverable("work", **{**SETTINGS, **settings})
    def work(*_: Any) -> None:
        body()
        if context.attempt() <= failures:
            raise ConnectionError(f"failure {context.attempt()}")
        kill(service)

    with service, pytest.raises(Killed):
        work(*args)


def resume(store: MemoryStore, work: Callable[..., Any], clock: Clock = time.monotonic, **settings: Any) -> Resumption:
    """Resume the calls in *store* with *work*, in a new process that ends well."""
    with Recovery(store=store, clock=clock) as service:
        service.recoverable("work", **{**SETTINGS, **settings})(work)
        resumption = service.resume()
        assert resumption.wait(10.0)
    return resumption


def die_again(store: MemoryStore, body: Callable[[], object] = lambda: None, **settings: Any) -> Resumption:
    """Resume the calls in *store* in a process that is killed in the attempt."""
    with Recovery(store=store) as service:
        service.recoverable("work", **{**SETTINGS, **settings})(lambda *_: (body(), kill(service)))
        resumption = service.resume()
        assert resumption.wait(10.0)
    return resumption


def leave_at(
    kind: type[Event], store: MemoryStore, *errors: Exception, clock: Clock = time.monotonic, **settings: Any
) -> None:
    """Leave a call that fails with *errors* in *store*, as a process does that is killed at an event of *kind*."""
    with Recovery(store=store, clock=clock) as service:
        kill_at(service, kind)
        with pytest.raises(Killed):
            service.recoverable("work", **{**SETTINGS, **settings})(Script(*errors))()
