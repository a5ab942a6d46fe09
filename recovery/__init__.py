"""Recovery for launcher operations: classify, schedule, break the circuit, journal, carry on."""

from events.errors import CallRejectedError, Permanent, RecoveryError, Retryable
from events.facts import Category, Evidence
from recovery import context
from recovery.backoff import Constant, Exponential, Linear
from recovery.breaker import BreakerPolicy
from recovery.classify import Classification, Classifier, classify
from recovery.log import Log
from recovery.plan import Settings
from recovery.policy import RetryPolicy
from recovery.resume import ResumedCall, Resumption
from recovery.service import Recovery, configure, recoverable
from recovery.store import Store

__all__ = [
    "BreakerPolicy",
    "CallRejectedError",
    "Category",
    "Classification",
    "Classifier",
    "classify",
    "configure",
    "Constant",
    "context",
    "Evidence",
    "Exponential",
    "Linear",
    "Log",
    "Permanent",
    "recoverable",
    "Recovery",
    "RecoveryError",
    "ResumedCall",
    "Resumption",
    "Retryable",
    "RetryPolicy",
    "Settings",
    "Store",
]
