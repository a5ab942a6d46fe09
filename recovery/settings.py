"""The settings of an operation, and its checked config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar

import msgspec

from events.conditions import Condition
from events.evidence import Category
from events.operation_events import FailureClassified
from recovery.policies.backoff import Jitter
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.classification import Classifier
from recovery.policies.durability import Durability, OnDegraded
from recovery.policies.retry import RetryPolicy, Strategy, Then

S = TypeVar("S", bound=msgspec.Struct)

WhenOpen: TypeAlias = Literal["reject", "wait"]
OnConflict: TypeAlias = Literal["join", "reject"]
ClusterUse: TypeAlias = Literal["optional", "required"]


class Settings(TypedDict, total=False):
    """The keyword arguments of ``recoverable`` and ``Recovery.operation``: see the page *Settings*.

    A setting that is left out has the service's default. ``None`` leaves *enable_classification*,
    *enable_persistence* and *enable_logging* to the service; for *breaker*, *budget* and *key* it means none, for a
    limit no limit.
    """

    max_retries: int | None
    initial_delay: float
    backoff_factor: float
    max_delay: float
    max_elapsed: float | None
    attempt_timeout: float | None
    stall_timeout: float | None
    progress_resets: int | None
    max_rate_limits: int | None
    per_category: Mapping[Category, Strategy]
    jitter: Jitter
    then: Then
    policy: RetryPolicy
    retry_on: type[Exception] | Sequence[type[Exception]]
    classifier: Classifier | Sequence[Classifier]
    enable_classification: bool | None
    enable_persistence: bool | None
    enable_logging: bool | None
    circuit_breaker_threshold: int
    circuit_breaker_timeout: float
    breaker: BreakerPolicy | None
    budget: RetryBudget | None
    when_open: WhenOpen
    key: Callable[..., str] | None
    resumable: bool
    idempotency_key: Callable[..., str]
    remember: float
    join: bool
    on_conflict: OnConflict
    version: str
    durability: Durability
    on_degraded: OnDegraded
    retry_exhausted: bool
    retry_if: Callable[[Any], Any]
    retry_if_error: Callable[[Exception], Any]
    before_retry: Callable[[FailureClassified], Any]
    fallback: Any
    idempotent: bool
    reconcile: Callable[..., Any]
    before: Condition | Sequence[Condition]
    claims: Mapping[str, float | Callable[..., float | None]]
    cluster: ClusterUse


class Absent(Enum):
    """The type of ``ABSENT``."""

    ABSENT = "absent"


class NoFallback(Enum):
    """The type of ``NO_FALLBACK``."""

    NO_FALLBACK = "no fallback"


NO_FALLBACK = NoFallback.NO_FALLBACK
"""The fallback of an operation without one: the caller gets the exception. ``None`` is a fallback like any other."""


class OperationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The checked settings of one operation; ``None`` leaves *classification*, *logging* and *durability* open."""

    policy: RetryPolicy
    breaker: BreakerPolicy | None
    budget: RetryBudget | None = None
    when_open: WhenOpen = "reject"
    retry_on: tuple[type[Exception], ...] | None = None
    classifiers: tuple[Any, ...] = ()  # of Classifier; msgspec need not look into it
    classification: bool | None = None
    logging: bool | None = None
    durability: Durability | None = None
    on_degraded: OnDegraded = "run"
    resumable: bool = False
    version: str = ""
    idempotency_key: Any = None  # a Callable[..., str]
    remember: float | None = None
    join: bool | None = None
    on_conflict: OnConflict = "join"
    key: Any = None  # a Callable[..., str]
    retry_exhausted: bool = False
    retry_if: Any = None  # a Callable[[Any], bool]
    retry_if_error: Any = None  # a Callable[[Exception], bool | None]
    before_retry: Any = None  # a Callable[[FailureClassified], object]
    fallback: Any = NO_FALLBACK
    idempotent: bool = True
    reconcile: Any = None  # a Callable[..., Any]
    before: tuple[Any, ...] = ()  # of Condition; msgspec need not look into it
    claims: dict[str, Any] = {}  # of amounts, and of functions that return one
    cluster: ClusterUse = "optional"

    @property
    def may_repeat(self) -> bool:
        """Whether an attempt may be made after another that may have had its effect."""
        return self.idempotent or self.reconcile is not None

    @property
    def joins(self) -> bool:
        """Whether a call joins an equal one that is pending, running or waiting."""
        return self.join is not False and (self.resumable or self.idempotency_key is not None)

    @property
    def has_context(self) -> bool:
        """Whether ``recovery.context`` has an answer in a running call."""
        return self.journalled or self.policy.watches_progress or bool(self.claims)

    @property
    def has_holds(self) -> bool:
        """Whether a call may be held before its first attempt for more than circuits and limits."""
        return bool(self.before or self.claims)

    @property
    def journalled(self) -> bool:
        """Whether starts are journalled, so that calls can be resumed."""
        return self.durability in ("journal", "strict")


ConfigOf: TypeAlias = Callable[[str], OperationConfig | None]
"""Finds the config of an operation by name; ``None`` for an operation that the service does not know."""

NO_CONFIGS: Mapping[str, OperationConfig] = {}
"""Where no call has a config of its own."""

ABSENT = Absent.ABSENT
"""What ``reconcile`` returns if the effect is not there, so that the attempt is made again."""
