"""Recovery for launcher operations: classify, schedule, break the circuit, journal, resume."""

import recovery.installation as _installation  # noqa: F401  # first: it says where another module hides one of ours
from recovery import context, presets
from recovery.default_service import configure, recoverable
from recovery.execution.decorator import recovery_of
from recovery.journal.accounting import Counts
from recovery.journal.config import JournalConfig
from recovery.journal.errors import NotDurable
from recovery.journal.history import CallRecord
from recovery.journal.receipts import Receipt
from recovery.journal.store import Store
from recovery.outcome import CallOutcome, outcome_of
from recovery.policies.backoff import Constant, Exponential, Linear
from recovery.policies.budget import RetryBudget
from recovery.policies.circuit_breaker import BreakerPolicy
from recovery.policies.classification import Classification, Classifier
from recovery.policies.hosts import HOST_BREAKER, host_of
from recovery.policies.retry import RetryPolicy, Strategy
from recovery.policies.rules import Rule
from recovery.resume.handles import ResumedCall, Resumption
from recovery.serialization.secret import Secret
from recovery.service import Recovery
from recovery.settings import ABSENT, NO_FALLBACK, Settings
from recovery.subscribers.classification import classify
from recovery.subscribers.evidence_extraction import extract_evidence
from recovery.subscribers.log import Log
from recovery.waiting.wait import WaitingCall

__all__ = [
    "ABSENT", "BreakerPolicy", "CallOutcome", "CallRecord", "Classification", "Classifier", "classify", "configure",
    "Constant", "context", "Counts", "Exponential", "extract_evidence", "HOST_BREAKER", "host_of", "JournalConfig",
    "Linear", "Log", "NO_FALLBACK", "NotDurable", "outcome_of", "presets", "Receipt", "recoverable", "Recovery",
    "recovery_of", "ResumedCall", "Resumption", "RetryBudget", "RetryPolicy", "Rule", "Secret", "Settings", "Store",
    "Strategy", "WaitingCall",
]  # fmt: skip
