"""Other people's libraries, each set up for the same work: four tries at once, or a circuit that does not open.

They are a dependency group of their own; one that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from bench.measure import Effort

Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

NAMES = (
    "tenacity", "stamina", "backoff", "hyx", "pyresilience", "opnieuw", "circuitbreaker", "pybreaker", "dbos",
)  # fmt: skip
TRIES = 4

_for_good = contextlib.ExitStack()


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One of them: how it wraps *plain* and *coroutine* functions, ``None`` where it cannot."""

    name: str
    retries: bool
    plain: Wrap | None = None
    coroutine: Wrap | None = None


def versions() -> dict[str, str | None]:
    """Every peer's version, ``None`` where it is not installed."""
    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def peers(effort: Effort, delay: float = 0.0) -> list[Peer]:
    """Those installed, retrying after *delay* seconds; none where *effort* does without."""
    if not effort.peers:
        return []
    return [make(delay) for name, make in MAKERS.items() if importlib.util.find_spec(name) is not None]


def _tenacity(delay: float) -> Peer:
    import tenacity

    wrap = tenacity.retry(stop=tenacity.stop_after_attempt(TRIES), wait=tenacity.wait_fixed(delay), reraise=True)
    return Peer(name="tenacity", retries=True, plain=wrap, coroutine=wrap)


def _stamina(delay: float) -> Peer:
    import stamina
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks([])  # it would log every retry
    wrap = stamina.retry(on=ConnectionError, attempts=TRIES, wait_initial=delay, wait_max=delay, wait_jitter=0.0)
    return Peer(name="stamina", retries=True, plain=wrap, coroutine=wrap)


def _backoff(delay: float) -> Peer:
    import logging

    import backoff

    logging.getLogger("backoff").disabled = True  # it would log every retry
    wrap = backoff.on_exception(backoff.constant, ConnectionError, max_tries=TRIES, interval=delay, jitter=None)
    return Peer(name="backoff", retries=True, plain=wrap, coroutine=wrap)


def _hyx(delay: float) -> Peer:
    from hyx.retry import retry

    return Peer(name="hyx", retries=True, coroutine=retry(on=ConnectionError, attempts=TRIES, backoff=delay))


def _pyresilience(delay: float) -> Peer:
    from pyresilience import RetryConfig, resilient

    # Without its circuit breaker, which counts attempts: it would open on failures that retries absorb.
    wrap = resilient(retry=RetryConfig(max_attempts=TRIES, delay=delay, jitter=False, max_delay=7200.0))
    return Peer(name="pyresilience", retries=True, plain=wrap, coroutine=wrap)


def _opnieuw(delay: float) -> Peer:
    import opnieuw
    from opnieuw.test_util import retry_immediately

    if delay == 0.0:  # it knows only a window in whole seconds; this is its own way to have none
        _for_good.enter_context(retry_immediately())
    wrap = opnieuw.retry(
        retry_on_exceptions=ConnectionError, max_calls_total=TRIES, retry_window_after_first_call_in_seconds=3600
    )
    return Peer(name="opnieuw", retries=True, plain=wrap, coroutine=wrap)


def _circuitbreaker(_: float) -> Peer:
    from circuitbreaker import circuit

    wrap = circuit(failure_threshold=5)
    return Peer(name="circuitbreaker", retries=False, plain=wrap, coroutine=wrap)


def _pybreaker(_: float) -> Peer:
    import pybreaker

    return Peer(name="pybreaker", retries=False, plain=pybreaker.CircuitBreaker(fail_max=5))


MAKERS: dict[str, Callable[[float], Peer]] = {
    "tenacity": _tenacity,
    "stamina": _stamina,
    "backoff": _backoff,
    "hyx": _hyx,
    "pyresilience": _pyresilience,
    "opnieuw": _opnieuw,
    "circuitbreaker": _circuitbreaker,
    "pybreaker": _pybreaker,
}
"""DBOS is not a wrapper like these; ``bench.rows.durable`` measures it."""
