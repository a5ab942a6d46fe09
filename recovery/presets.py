"""Recommended services for production, staging and development.

    service = production(store=SQLiteStore("journal.db"))
    service = staging(budget=RetryBudget())  # an option overrides the preset
    service = development(enabled=True)

docs/performance.md gives the reason for each choice, and its measured cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, Unpack

from recovery.journal.config import JournalConfig
from recovery.journal.store import Store
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.classification import Classifier
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.waiting.waiters import Clock


class Options(TypedDict, total=False):
    """The keyword arguments of ``Recovery``."""

    store: Store | None
    enabled: bool
    policy: RetryPolicy
    breaker: BreakerPolicy | None
    budget: RetryBudget | None
    classifier: Classifier | Sequence[Classifier]
    enable_classification: bool
    enable_logging: bool | None
    clock: Clock
    rng: Callable[[], float]
    run: str | None
    max_keys: int
    journal_config: JournalConfig


def production(**options: Unpack[Options]) -> Recovery:
    """A service for production: classification and circuits, and monitored only when asked for.

    Its log tells of long waits, open circuits and calls that gave up; a retry costs no line unless INFO is wanted.

    Args:
        options: Options of ``Recovery``, which override the preset.
    """
    chosen: Options = {"enabled": True, "enable_classification": True, **options}
    return Recovery(**chosen)


def staging(**options: Unpack[Options]) -> Recovery:
    """A service for staging: as in production, with logging and monitoring.

    People read the log, and a problem raises its alert here before it does in production.

    Args:
        options: Options of ``Recovery``, which override the preset.

    Raises:
        ImportError: The extra ``monitor`` is not installed.
    """
    chosen: Options = {"enabled": True, "enable_classification": True, "enable_logging": True, **options}
    service = Recovery(**chosen)
    service.monitor()
    return service


def development(**options: Unpack[Options]) -> Recovery:
    """A service for development: off unless ``enabled=True``, with logging.

    A bug shows at once, where it is, not after three retries; functions stay untouched.

    Args:
        options: Options of ``Recovery``, which override the preset.
    """
    chosen: Options = {"enabled": False, "enable_classification": True, "enable_logging": True, **options}
    return Recovery(**chosen)
