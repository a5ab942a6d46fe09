"""Every metric that the collector has: its name, type, labels and meaning. docs/reference/metrics.md lists them."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

OPERATION = ("operation",)
PART = ("operation", "key")


class Family(NamedTuple):
    """One metric; a counter's samples end in ``_total``."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def shown(self) -> str:
        """Its name in queries."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


CALLS = Family("recovery_calls", "counter", (*PART, "outcome"), "Calls that ended, by outcome.")
FAILURES = Family("recovery_failures", "counter", (*PART, "category"), "Attempts that failed, by category.")
RETRIES = Family("recovery_retries", "counter", PART, "Retries that were scheduled.")
PARKS = Family("recovery_parks", "counter", PART, "Waits for a cause to go away: a host, room on a disk, an answer.")
RESUMED = Family("recovery_resumed_calls", "counter", PART, "Calls that were resumed after a restart.")
WAITED = Family("recovery_planned_wait_seconds", "counter", PART, "Seconds that scheduled waits were to last.")
DECIDED = Family("recovery_decision_seconds", "counter", PART, "Seconds between failures and their verdicts.")
OPENINGS = Family("recovery_circuit_openings", "counter", PART, "How many times a circuit opened.")
OPEN_SECONDS = Family("recovery_circuit_open_seconds", "counter", PART, "Seconds that circuits were open.")
INCIDENTS = Family("recovery_incidents", "counter", PART, "Incidents that ended.")

RECOVERY = Family(
    "recovery_recovery_seconds", "histogram", OPERATION, "Seconds from a call's first failure to its success."
)
LAG = Family(
    "recovery_retry_lag_seconds",
    "histogram",
    OPERATION,
    "Seconds by which the latest retry of a recovered call began late.",
)

CIRCUITS = Family("recovery_open_circuits", "gauge", PART, "Circuits that are open or half-open.")
OVERHEAD = Family(
    "recovery_overhead_ratio", "gauge", OPERATION, "Time that recovery adds to a call, as a share of its own time."
)
WAITING = Family("recovery_waiting_calls", "gauge", (), "Calls that wait for their next attempt.")
OPEN_INCIDENTS = Family("recovery_open_incidents", "gauge", (), "Incidents that are open.")
QUESTIONS = Family("recovery_open_questions", "gauge", (), "Questions that wait for a person.")
ALERTS = Family("recovery_raised_alerts", "gauge", ("alert", *PART), "Alerts of the monitor that are on.")
MEMORY = Family("recovery_memory_bytes", "gauge", (), "Estimated bytes of waiting calls and the journal's write queue.")

JOURNAL_EVENTS = Family("recovery_journal_events", "counter", ("result",), "Events given to the journal, by result.")
JOURNAL_DEGRADED = Family("recovery_journal_degradations", "counter", (), "How many times writing began to fail.")
JOURNAL_QUARANTINED = Family(
    "recovery_journal_quarantined_files", "counter", (), "Damaged journal files that were set aside."
)
JOURNAL_WAITING = Family("recovery_journal_waiting_events", "gauge", (), "Events accepted and not yet committed.")
JOURNAL_BYTES = Family("recovery_journal_waiting_bytes", "gauge", (), "About the bytes of these events.")
JOURNAL_AGE = Family("recovery_journal_oldest_waiting_seconds", "gauge", (), "Age of the oldest of these events.")
JOURNAL_WRITABLE = Family("recovery_journal_writable", "gauge", (), "1 while the journal can be written, otherwise 0.")

SUBSCRIBER_FAILURES = Family("recovery_subscriber_failures", "counter", ("subscriber",), "Failures of subscribers.")
SUBSCRIBERS_DISABLED = Family(
    "recovery_disabled_subscribers", "gauge", (), "Subscribers that the bus disabled after repeated failures."
)
DROPPED_EVENTS = Family(
    "recovery_dropped_events", "counter", (), "Events dropped because they caused each other without end."
)

FAMILIES: tuple[Family, ...] = tuple(one for one in globals().values() if isinstance(one, Family))
"""All metrics, in the order in which they are written."""

OUTCOMES = {
    "succeeded": "no attempt failed",
    "recovered": "an attempt failed, and a later one succeeded",
    "gave_up": "it failed for good",
    "rejected": "it was not allowed to begin",
    "cancelled": "that is no failure",
}
"""The values of the label ``outcome``, and what each means."""

JOURNAL_RESULTS = {
    "stored": "written",
    "coalesced": "a later event of the same call made it superfluous",
    "dropped": "lost: there was no room, or it could not be written",
}
"""The values of the label ``result``, and what each means."""

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Upper bounds of the histograms in seconds: a call recovers within milliseconds, or after an hour without a host."""
