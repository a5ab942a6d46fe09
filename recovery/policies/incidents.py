"""What a failed probe means for the calls that wait for the same circuit: pure.

A probe asks for all of them, so its failure counts as one attempt of each. Each call then decides by its own policy:
a batch on a host that stays down ends as early as a single call would.
"""

from __future__ import annotations

from events.names import display_name
from events.operation_events import FailureClassified
from events.verdicts import OUT_OF_TIME, GiveUp
from recovery.policies.retry import RetryPolicy, parks

HELD = "circuit open: "
PROBES_FAILED = "the probes of other calls failed"


def open_circuit(operation: str, key: str) -> str:
    """What a call that waits for a circuit names as its cause."""
    return f"{HELD}{display_name(operation, key)}"


def seen_by(node: str) -> str:
    """What follows a cause that *node* of the cluster has seen; nothing where this process has, and *node* is ""."""
    return f", seen by {node}" if node else ""


def is_held(why: str) -> bool:
    """Whether *why* names an open circuit as the only cause of a wait."""
    return why.startswith(HELD) and "; " not in why


def has_ended(reason: str, operation: str, key: str) -> bool:
    """Whether *reason*, for which a call ended, is that the probes of other calls failed."""
    return f"incident {display_name(operation, key)}: {PROBES_FAILED}" in reason


def after_failed_probe(
    policy: RetryPolicy,
    failure: FailureClassified,
    retries: int,
    *,
    failing: float = 0.0,
    conditions_held: bool = False,
) -> GiveUp | int:
    """What a failed probe means for a call that waits: the retries that it uses up, or GiveUp if there are no more.

    A failure for which the policy parks a call uses no retry, but a call waits no longer than the policy would park it.

    Args:
        policy: The policy of the call.
        failure: That of the probe.
        retries: The retries that the call has used, the attempt included that it waits for.
        failing: Seconds since the first probe failed for which it has waited.
        conditions_held: Whether a call has waited until the conditions of the policy held: probes fail all the same.
    """
    most = policy.retries_for(failure.category)
    ended = f"incident {display_name(failure.operation, failure.key)}: {PROBES_FAILED}, {failure.brief}"
    if parks(policy, failure):
        strategy = policy.per_category.get(failure.category)
        timeout = None if strategy is None else strategy.wait_timeout
        if timeout is not None and failing >= timeout:
            return GiveUp((OUT_OF_TIME, ended))
        if not conditions_held:
            return 0
        most = None if most is None else max(most, 1)  # as where the call has waited for them itself
    return 1 if most is None or retries < most else GiveUp((f"out of retries ({most})", ended))
