"""About how many bytes an event takes in memory: enough to bound the write queue and the recent-call cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.event import Event
from events.evidence import Evidence
from events.operation_events import (
    CheckpointSaved,
    FailureClassified,
    OperationRecovered,
    OperationStarted,
    OperationSucceeded,
)
from events.question_events import QuestionAnswered

BASE_SIZE = 400
"""Bytes of an event without its texts."""


def size_of_evidence(evidence: Evidence | None) -> int:
    """Bytes of *evidence*, its causes included."""
    size = 0
    while evidence is not None:
        size += BASE_SIZE + len(evidence.message) + len(evidence.stderr or "")
        evidence = evidence.cause
    return size


def size_of_recorded(event: OperationSucceeded | OperationRecovered) -> int:
    """Bytes of the result that *event* records; 0 if it records none."""
    return 0 if event.recorded is None else memoryview(event.recorded.result).nbytes


TEXT_SIZES: dict[type[Event], Callable[[Any], int]] = {
    FailureClassified: lambda event: size_of_evidence(event.evidence),
    CheckpointSaved: lambda event: memoryview(event.data).nbytes,
    QuestionAnswered: lambda event: memoryview(event.value).nbytes,
    OperationStarted: lambda event: memoryview(event.arguments).nbytes,
    OperationSucceeded: size_of_recorded,
    OperationRecovered: size_of_recorded,
}
"""Bytes of an event's texts, for the kinds whose texts may be long."""
