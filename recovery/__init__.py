"""Recovery for launcher operations: classify, schedule, break the circuit, journal, carry on."""

from events.conditions import Condition
from events.errors import CallRejectedError, NotDurable, Permanent, RecoveryError, Retryable
from events.facts import Category, Evidence
from recovery import context, presets
from recovery.alerts import Threshold, Thresholds
from recovery.backoff import Constant, Exponential, Linear
from recovery.breaker import BreakerPolicy
from recovery.budget import RetryBudget
from recovery.classify import Classification, Classifier, classify
from recovery.intake import Counts
from recovery.log import Log
from recovery.plain import Secret
from recovery.plan import ABSENT, Settings
from recovery.policy import RetryPolicy, Strategy
from recovery.receipts import Receipt
from recovery.resumption import ResumedCall, Resumption
from recovery.rules import Rule
from recovery.service import Recovery, configure, recoverable
from recovery.store import Store
from recovery.wait import WaitingCall

__all__ = [
    "ABSENT",
    "BreakerPolicy",
    "CallRejectedError",
    "Category",
    "Classification",
    "Classifier",
    "classify",
    "Condition",
    "configure",
    "Constant",
    "context",
    "Counts",
    "Evidence",
    "Exponential",
    "Linear",
    "Log",
    "NotDurable",
    "Permanent",
    "presets",
    "Receipt",
    "recoverable",
    "Recovery",
    "RecoveryError",
    "ResumedCall",
    "Resumption",
    "Retryable",
    "RetryBudget",
    "RetryPolicy",
    "Rule",
    "Secret",
    "Settings",
    "Store",
    "Strategy",
    "Threshold",
    "Thresholds",
    "WaitingCall",
]
