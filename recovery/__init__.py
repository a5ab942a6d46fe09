"""Recovery for launcher operations: classify, schedule, break the circuit, journal, resume."""

from typing import TYPE_CHECKING

import recovery.installation as _installation  # noqa: F401  # first: it says where another module hides one of ours

if TYPE_CHECKING:
    from recovery import context, leased, presets
    from recovery.answers import OpenQuestion
    from recovery.default_service import Recovery, configure, default, recoverable
    from recovery.execution.decorator import recovery_of
    from recovery.journal.accounting import Counts
    from recovery.journal.config import JournalConfig
    from recovery.journal.errors import NotDurable
    from recovery.journal.history import CallRecord
    from recovery.journal.receipts import Receipt
    from recovery.journal.store import Store
    from recovery.outcome import CallOutcome, outcome_of
    from recovery.policies.backoff import Constant, Exponential, Linear
    from recovery.policies.breaker_policy import BreakerPolicy
    from recovery.policies.budget import RetryBudget
    from recovery.policies.classification import Classification, Classifier
    from recovery.policies.hosts import HOST_BREAKER, host_of
    from recovery.policies.retry import RetryPolicy, Strategy
    from recovery.policies.rules import Rule
    from recovery.resume.handles import ResumedCall, Resumption
    from recovery.serialization.secret import Secret
    from recovery.settings import ABSENT, NO_FALLBACK, Settings
    from recovery.subscribers.classification import classify
    from recovery.subscribers.evidence_extraction import extract_evidence
    from recovery.subscribers.log import Log
    from recovery.subscribers.resources import ResourceState
    from recovery.waiting.description import WaitingCall

__all__ = [
    "ABSENT", "BreakerPolicy", "CallOutcome", "CallRecord", "Classification", "Classifier", "classify", "configure",
    "Constant", "context", "Counts", "default", "Exponential", "extract_evidence", "HOST_BREAKER", "host_of",
    "JournalConfig", "leased", "Linear", "Log", "NO_FALLBACK", "NotDurable", "OpenQuestion", "outcome_of", "presets",
    "Receipt", "recoverable", "Recovery", "recovery_of", "ResourceState", "ResumedCall", "Resumption", "RetryBudget",
    "RetryPolicy", "Rule", "Secret", "Settings", "Store", "Strategy", "WaitingCall",
]  # fmt: skip

_HOMES = {
    "context": "", "leased": "", "presets": "",
    "answers": "OpenQuestion",
    "default_service": "configure default recoverable Recovery",
    "execution.decorator": "recovery_of",
    "journal.accounting": "Counts",
    "journal.config": "JournalConfig",
    "journal.errors": "NotDurable",
    "journal.history": "CallRecord",
    "journal.receipts": "Receipt",
    "journal.store": "Store",
    "outcome": "CallOutcome outcome_of",
    "policies.backoff": "Constant Exponential Linear",
    "policies.budget": "RetryBudget",
    "policies.breaker_policy": "BreakerPolicy",
    "policies.classification": "Classification Classifier",
    "policies.hosts": "HOST_BREAKER host_of",
    "policies.retry": "RetryPolicy Strategy",
    "policies.rules": "Rule",
    "resume.handles": "ResumedCall Resumption",
    "serialization.secret": "Secret",
    "settings": "ABSENT NO_FALLBACK Settings",
    "subscribers.classification": "classify",
    "subscribers.evidence_extraction": "extract_evidence",
    "subscribers.log": "Log",
    "subscribers.resources": "ResourceState",
    "waiting.description": "WaitingCall",
}  # fmt: skip
"""The modules of the public names. Each is imported when one of its names is first asked for."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    import events  # noqa: F401  # before its modules: a thread that imports these and one that imports it would deadlock

    for home, names in _HOMES.items():
        if name == home:
            return import_module(f"recovery.{home}")
        if name in names.split():
            globals()[name] = value = getattr(import_module(f"recovery.{home}"), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
