"""What facts take in memory, about: enough to bound what waits, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.event import Fact
from events.evidence import Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    GaveUp,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
    Parked,
    RetryScheduled,
)

BASE_WEIGHT = 400
"""About what a fact takes in memory beside its texts, in bytes."""


def weigh(fact: Fact) -> int:
    """About how many bytes *fact* takes in memory."""
    weigh_texts = TEXTS.get(type(fact))
    return BASE_WEIGHT if weigh_texts is None else BASE_WEIGHT + weigh_texts(fact)


def _weigh_evidence(evidence: Evidence | None) -> int:
    weight = 0
    while evidence is not None:
        weight += BASE_WEIGHT + len(evidence.message) + len(evidence.stderr or "")
        evidence = evidence.cause
    return weight


def weigh_recorded(fact: OperationSucceeded | OperationRecovered) -> int:
    """What the result takes that *fact* records."""
    return 0 if fact.recorded is None else memoryview(fact.recorded.result).nbytes


TEXTS: dict[type[Fact], Callable[[Any], int]] = {
    **{kind: lambda fact: len(fact.error or "") for kind in (RetryScheduled, Parked, GaveUp)},
    FailureClassified: lambda fact: _weigh_evidence(fact.evidence),
    CheckpointSaved: lambda fact: memoryview(fact.data).nbytes,
    OperationStarted: lambda fact: memoryview(fact.arguments).nbytes,
    OperationSucceeded: weigh_recorded,
    OperationRecovered: weigh_recorded,
}
"""What the texts of a fact take, for those kinds that have any worth speaking of."""
