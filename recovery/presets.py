"""Recommended services for production, staging and development. ``PRESETS`` has every choice with its reason.

    service = production(store=SQLiteStore("journal.db"))
    service = staging(budget=RetryBudget())  # an option that is given overrides the preset's
    service = development(enabled=True)

Each choice names the row of ``make bench`` that shows its cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import msgspec

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


class Choice(msgspec.Struct, frozen=True):
    """One choice of a preset: *what* is set to which *value*, *why*, and which measured *row* shows the price."""

    what: str
    value: str
    why: str
    row: str


class Preset(msgspec.Struct, frozen=True):
    """What a preset gives: *options* for ``Recovery``, whether it is *monitored*, and each of its *choices*."""

    options: Mapping[str, bool]
    monitored: bool
    choices: tuple[Choice, ...]


LAZY = Choice(
    "persistence",
    "lazy, where a store is given",
    "failures, retries, circuits and how troubled calls ended are written, nothing of a call that succeeds at once; "
    "it is written in batches, on the journal's thread",
    "persistence",
)
CLASSIFIED = Choice(
    "classification",
    "on",
    "a failure that cannot go away is not tried again; asked for failures only, so a healthy call does not pay for it",
    "classification",
)
BREAKER = Choice(
    "circuit breaker",
    "on: five calls in a row that gave up",
    "a sick host is left alone; a closed circuit has no seat on starts and successes",
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
                "a line for each failure costs more than the rest of its recovery, and comes when everything fails; "
                "the journal has it all",
                "logging",
            ),
            Choice(
                "monitoring",
                "when asked for: service.monitor()",
                "successes are read from counters; it needs the extra `monitor`, which production need not have",
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
            Choice("logging", "on", "somebody reads along, and it is quiet while all is well", "logging"),
            Choice("monitoring", "on", "what would be an alert in production is to be seen here first", "monitoring"),
        ),
    ),
    "development": Preset(
        {"enabled": False, "enable_classification": True, "enable_logging": True},
        monitored=False,
        choices=(
            Choice(
                "recovery",
                "off unless asked for: enabled=True",
                "a bug is to be seen at once, where it is, and not after three retries; functions stay untouched",
                "wrapper",
            ),
            Choice("logging", "on, once recovery is", "whoever asks for recovery here wants to see it work", "logging"),
            Choice("monitoring", "off", "there is nothing to watch", "monitoring"),
        ),
    ),
}
"""The presets by name. An option that is not named has the default of ``Recovery``."""


def production(**options: Unpack[Options]) -> Recovery:
    """A service for production: quiet, and monitored only when asked. ``PRESETS["production"]`` has each choice.

    *options* are those of ``Recovery`` and override the preset's.
    """
    return _made("production", options)


def staging(**options: Unpack[Options]) -> Recovery:
    """A service for staging: as in production, with logging and monitoring. ``PRESETS["staging"]`` has each choice.

    Raises ImportError without the extra ``monitor``.
    """
    return _made("staging", options)


def development(**options: Unpack[Options]) -> Recovery:
    """A service for development: off without ``enabled=True``. ``PRESETS["development"]`` has each choice."""
    return _made("development", options)


def _made(name: str, given: Options) -> Recovery:
    preset = PRESETS[name]
    options: Options = {**preset.options, **given}  # type: ignore[typeddict-item]  # a test compares the names
    service = Recovery(**options)
    if preset.monitored:
        service.monitor()
    return service
