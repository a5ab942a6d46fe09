"""Recommended services for production, staging and development.

    service = production(store=SQLiteStore("journal.db"))
    service = staging(budget=RetryBudget())  # an option overrides the preset
    service = development(enabled=True)

``PRESETS`` has every choice with its reason, and with the row of ``make bench`` that shows its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import msgspec

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
    enable_logging: bool
    clock: Clock
    rng: Callable[[], float]
    run: str | None
    max_keys: int
    journal_config: JournalConfig


class Choice(msgspec.Struct, frozen=True):
    """One choice of a preset.

    Args:
        what: What is chosen.
        value: The choice in words.
        why: The reason.
        row: The row of ``make bench`` that shows the cost.
    """

    what: str
    value: str
    why: str
    row: str


class Preset(msgspec.Struct, frozen=True):
    """A preset.

    Args:
        options: Options of ``Recovery``.
        monitored: Whether the service is monitored from the start.
        choices: Each choice with its reason.
    """

    options: Mapping[str, bool]
    monitored: bool
    choices: tuple[Choice, ...]


LAZY = Choice(
    "persistence",
    "lazy, where a store is given",
    "failures, retries, circuits and the outcomes of calls that failed once are written, nothing of a call that "
    "succeeds at once; the journal's thread writes in batches",
    "persistence",
)
CLASSIFIED = Choice(
    "classification",
    "on",
    "a failure that cannot pass is not retried; only failures are classified, so that a healthy call costs nothing",
    "classification",
)
BREAKER = Choice(
    "circuit breaker",
    "on: five calls in a row that gave up",
    "a failing host gets no more calls; a closed circuit does not subscribe to starts and successes",
    "breaker",
)

PRESETS: dict[str, Preset] = {
    "production": Preset(
        {"enabled": True, "enable_classification": True, "enable_logging": False},
        monitored=False,
        choices=(
            CLASSIFIED,
            LAZY,
            BREAKER,
            Choice(
                "logging",
                "off",
                "a line for each failure costs more than the rest of its recovery, just when every call fails; "
                "the journal has the events",
                "logging",
            ),
            Choice(
                "monitoring",
                "when asked for: service.monitor()",
                "it needs the extra `monitor`, which production need not install; successes are read from counters",
                "monitoring",
            ),
        ),
    ),
    "staging": Preset(
        {"enabled": True, "enable_classification": True, "enable_logging": True},
        monitored=True,
        choices=(
            CLASSIFIED,
            LAZY,
            BREAKER,
            Choice("logging", "on", "people read the log, and it is quiet while calls succeed", "logging"),
            Choice("monitoring", "on", "a problem raises its alert here before it does in production", "monitoring"),
        ),
    ),
    "development": Preset(
        {"enabled": False, "enable_classification": True, "enable_logging": True},
        monitored=False,
        choices=(
            Choice(
                "recovery",
                "off unless asked for: enabled=True",
                "a bug shows at once, where it is, not after three retries; functions stay untouched",
                "wrapper",
            ),
            Choice("logging", "on, once recovery is", "recovery that was asked for should be seen at work", "logging"),
            Choice("monitoring", "off", "nothing is recovered, so there is nothing to count", "monitoring"),
        ),
    ),
}
"""The presets by name. Every other option has the default of ``Recovery``."""


def production(**options: Unpack[Options]) -> Recovery:
    """A service for production: no log, and monitored only when asked for.

    Args:
        options: Options of ``Recovery``, which override the preset.
    """
    return _made("production", options)


def staging(**options: Unpack[Options]) -> Recovery:
    """A service for staging: as in production, with logging and monitoring.

    Args:
        options: Options of ``Recovery``, which override the preset.

    Raises:
        ImportError: The extra ``monitor`` is not installed.
    """
    return _made("staging", options)


def development(**options: Unpack[Options]) -> Recovery:
    """A service for development: off unless ``enabled=True``, with logging.

    Args:
        options: Options of ``Recovery``, which override the preset.
    """
    return _made("development", options)


def _made(name: str, given: Options) -> Recovery:
    preset = PRESETS[name]
    options: Options = {**preset.options, **given}  # type: ignore[typeddict-item]  # a test compares the names
    service = Recovery(**options)
    if preset.monitored:
        service.monitor()
    return service
