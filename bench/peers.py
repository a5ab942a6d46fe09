"""Other libraries, each configured for the same task: four attempts without delay, or a circuit that stays closed.

They are the dependency group ``peers``. A library that is not installed is left out, and the report says so.
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
ATTEMPTS = 4

_process_lifetime = contextlib.ExitStack()
"""Never closed: its contexts last as long as the process."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A library: how it wraps *plain* and *coroutine* functions, or ``None`` if it cannot."""

    name: str
    retries: bool
    plain: Wrap | None = None
    coroutine: Wrap | None = None


def versions() -> dict[str, str | None]:
    """The version of every library, ``None`` if it is not installed."""
    found: dict[str, str | None] = {}
    for name in NAMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def peers(effort: Effort, delay: float = 0.0) -> list[Peer]:
    """The installed libraries, set to retry after *delay* seconds; none if *effort* leaves them out."""
    if not effort.peers:
        return []
    return [make(delay) for name, make in MAKERS.items() if importlib.util.find_spec(name) is not None]


def _tenacity(delay: float) -> Peer:
    import tenacity

    wrap = tenacity.retry(stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_fixed(delay), reraise=True)
    return Peer(name="tenacity", retries=True, plain=wrap, coroutine=wrap)


def _stamina(delay: float) -> Peer:
    import stamina
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks([])  # else it logs every retry
    wrap = stamina.retry(on=ConnectionError, attempts=ATTEMPTS, wait_initial=delay, wait_max=delay, wait_jitter=0.0)
    return Peer(name="stamina", retries=True, plain=wrap, coroutine=wrap)


def _backoff(delay: float) -> Peer:
    import logging

    import backoff

    logging.getLogger("backoff").disabled = True  # else it logs every retry
    wrap = backoff.on_exception(backoff.constant, ConnectionError, max_tries=ATTEMPTS, interval=delay, jitter=None)
    return Peer(name="backoff", retries=True, plain=wrap, coroutine=wrap)


def _hyx(delay: float) -> Peer:
    from hyx.retry import retry

    return Peer(name="hyx", retries=True, coroutine=retry(on=ConnectionError, attempts=ATTEMPTS, backoff=delay))


def _pyresilience(delay: float) -> Peer:
    from pyresilience import RetryConfig, resilient

    # Without its circuit breaker, which counts attempts and opens on failures that retries absorb.
    wrap = resilient(retry=RetryConfig(max_attempts=ATTEMPTS, delay=delay, jitter=False, max_delay=7200.0))
    return Peer(name="pyresilience", retries=True, plain=wrap, coroutine=wrap)


def _opnieuw(delay: float) -> Peer:
    import opnieuw
    from opnieuw.test_util import retry_immediately

    if delay == 0.0:  # its window is in whole seconds; this is its own way to retry at once
        _process_lifetime.enter_context(retry_immediately())
    wrap = opnieuw.retry(
        retry_on_exceptions=ConnectionError, max_calls_total=ATTEMPTS, retry_window_after_first_call_in_seconds=3600
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
"""How to configure each library. DBOS is not a wrapper: ``bench.rows.durable`` measures it."""
