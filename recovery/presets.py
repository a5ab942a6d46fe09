"""Recommended services for launchers, production, staging and development.

    service = launcher(store=SQLiteStore("journal.db"))
    service = production(store=SQLiteStore("journal.db"))
    service = staging(budget=RetryBudget())  # an option overrides the preset
    service = development(enabled=True)

docs/explanation/performance.md gives the reason for each choice, and its measured cost.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, Unpack

import msgspec

from events.conditions import Condition
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified
from recovery.calls import Calls
from recovery.conditions import disk_space, host_reachable
from recovery.journal.config import JournalConfig
from recovery.journal.store import Store
from recovery.policies.backoff import Exponential
from recovery.policies.breaker_policy import BreakerPolicy
from recovery.policies.budget import RetryBudget
from recovery.policies.causes import ConditionOf
from recovery.policies.classification import Classifier
from recovery.policies.hosts import HOST_BREAKER, host_of
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.policies.rules import Rule, in_order
from recovery.service import Recovery
from recovery.settings import Settings, WhenOpen
from recovery.waiting.waiters import Clock

PATIENT = RetryPolicy(max_retries=10, backoff=Exponential(1.0, 2.0), jitter="equal", progress_resets=None)
"""Ten retries in a row without progress, which take 2.5 to 5 minutes: a reboot of a router or a server is shorter."""

UNDECODABLE = Rule(
    "undecodable answer",
    Category.TRANSIENT,
    types=("json.decoder.JSONDecodeError", "msgspec.DecodeError", "builtins.UnicodeDecodeError"),
    why="the answer was cut off, or is the error page of a proxy",
)

ROOM = 1e9
"""Bytes that must be free before a call that found the disk full is tried again."""

DISK_TIMEOUT = ANSWER_TIMEOUT = 3600.0
HOST_TIMEOUT = 900.0
"""Seconds: shorter, since a host that is not there may be a name that is misspelled."""

HOST_AND_PORT = r"(\[[0-9a-f:.]+\]|[\w.-]+):([0-9]{1,5})"
"""A key as ``host_of`` makes it."""

PROXIES = {"http_proxy", "https_proxy", "all_proxy"}


class Options(TypedDict, total=False):
    """The keyword arguments of ``Recovery``."""

    store: Store | None
    enabled: bool
    policy: RetryPolicy
    breaker: BreakerPolicy | None
    budget: RetryBudget | None
    key: Callable[..., str] | None
    when_open: WhenOpen
    classifier: Classifier | Sequence[Classifier]
    enable_classification: bool
    enable_logging: bool | None
    clock: Clock
    rng: Callable[[], float]
    run: str | None
    max_keys: int
    journal_config: JournalConfig
    overrides: Mapping[str, Settings]


def launcher(*, disk: Condition | None = None, **options: Unpack[Options]) -> Recovery:
    """A service for launchers: patient, a circuit for each host, and calls that wait for disk, network and persons.

    - Ten retries with delays of 0.5 to 60 s, 2.5 to 5 minutes together; an attempt that gets further than all before it
      (``recovery.context.progress``) gives them back.
    - A call has the key ``recovery.host_of``, the host and port of its first URL, unless its operation has a ``key``.
      Five attempts in a row that do not reach a host open its circuit; other calls to that host then wait.
    - Answers that cannot be decoded (JSON, msgspec, Unicode) are transient.
    - A call that finds the disk full waits for *disk*, at most an hour. A call that does not reach its host waits
      until the host accepts connections, at most 15 minutes. Through a proxy it is retried instead.
    - A call that is denied (a login, a licence, a payment) waits at most an hour for
      ``service.calls.answer("help with KEY")``; without a key it is the operation's name. A call that is denied again
      after an answer asks again, with the reason; the answer False ends it.

    Args:
        disk: What a call that finds the disk full waits for; by default 1 GB free where the process works.
        options: Options of ``Recovery``, which override the preset; *classifier* is asked before the preset's rule.
            A *policy* replaces the waits too.
    """
    space = disk_space(".", ROOM) if disk is None else disk
    chosen: Options = {"policy": PATIENT, "breaker": HOST_BREAKER, "key": host_of, "when_open": "wait", **options}
    chosen["classifier"] = (*in_order("classifier", options.get("classifier", ())), UNDECODABLE)
    service = Recovery(**chosen)
    if "policy" not in options:
        waits = waits_for_causes(service.calls, when_full_of(space))
        service.configure(policy=msgspec.structs.replace(PATIENT, per_category=waits))
    return service


def waits_for_causes(
    calls: Calls,
    when_full: ConditionOf,
    *,
    disk: float = DISK_TIMEOUT,
    host: float = HOST_TIMEOUT,
    answer: float = ANSWER_TIMEOUT,
) -> dict[Category, Strategy]:
    """What the calls of a launcher wait for, by category: for ``RetryPolicy(per_category=...)``.

    Args:
        calls: ``service.calls``, which asks the questions.
        when_full: The condition that a call waits for that found the disk full, or None for another failure.
        disk: The most seconds to wait for room; 0 does not wait for it, but retries.
        host: Likewise for a host that is not reached.
        answer: Likewise for an answer; 0 gives up at once.
    """
    waits = (
        (Category.ENVIRONMENT, when_full, disk),
        (Category.UNREACHABLE, _host_back, host),
        (Category.AUTH, _help_from(calls), answer),
    )
    return {
        category: Strategy(wait_for=(cause,), wait_timeout=seconds) for category, cause, seconds in waits if seconds
    }


def when_full_of(space: Condition) -> ConditionOf:
    """That *space* holds, for a failure that found a disk full."""

    def room(failure: FailureClassified) -> Condition | None:
        return space if is_full(failure) else None

    return room


def is_full(failure: FailureClassified) -> bool:
    """Whether *failure* means that a disk, or a user's quota of it, is full."""
    return failure.rule == "disk-full" or _says_full(failure.evidence)


def _says_full(evidence: Evidence | None) -> bool:
    return evidence is not None and (evidence.errno in (errno.ENOSPC, errno.EDQUOT) or _says_full(evidence.cause))


def _host_back(failure: FailureClassified) -> Condition | None:
    """That the host of the key accepts connections; through a proxy only an attempt can tell."""
    found = re.fullmatch(HOST_AND_PORT, failure.key)
    if found is None or not 0 < int(found[2]) < 65536:
        return None
    if any(value for name, value in os.environ.items() if name.lower() in PROXIES):
        return None
    return host_reachable(found[1].strip("[]"), int(found[2]))


def _help_from(calls: Calls) -> ConditionOf:
    def help_with(failure: FailureClassified) -> Condition | None:
        if failure.remedy is not None and failure.remedy.question:
            return calls.question_of(failure)
        name = f"help with {failure.key or failure.operation}"
        calls.refused_by(name, failure)
        return calls.question(name)

    return help_with


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
