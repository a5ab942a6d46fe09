"""What a failed probe means for the calls that wait for the same circuit: pure.

A probe asks for all of them, so its failure counts as one attempt of each. Each call then decides by its own policy:
a batch on a host that stays down ends as early as a single call would.
"""

from __future__ import annotations

from events.evidence import Category
from events.names import display_name
from events.verdicts import GiveUp
from recovery.policies.retry import RetryPolicy

HELD = "circuit open: "
PROBES_FAILED = "the probes of other calls failed"


def open_circuit(operation: str, key: str) -> str:
    """What a call that waits for a circuit names as its cause."""
    return f"{HELD}{display_name(operation, key)}"


def is_held(why: str) -> bool:
    """Whether *why* names an open circuit as the only cause of a wait."""
    return why.startswith(HELD) and "; " not in why


def has_ended(reason: str, operation: str, key: str) -> bool:
    """Whether *reason*, for which a call ended, is that the probes of other calls failed."""
    return f"incident {display_name(operation, key)}: {PROBES_FAILED}" in reason


def after_failed_probe(
    policy: RetryPolicy, retries: int, category: Category | None, incident: str, cause: str
) -> GiveUp | None:
    """Why a call that waits for *incident* ends now that a probe has failed; ``None`` if it may wait on.

    Args:
        policy: The policy of the call.
        retries: The retries that it has used, the attempt included that it waits for.
        category: The category of the probe's failure. One for which the policy parks calls until a condition holds
            uses no retry.
        incident: The name of the operation and its key.
        cause: What the probe's failure means, in a few words.
    """
    strategy = None if category is None else policy.per_category.get(category)
    most = policy.retries_for(category)
    if most is None or retries < most or (strategy is not None and strategy.wait_for):
        return None
    return GiveUp((f"out of retries ({most})", f"incident {incident}: {PROBES_FAILED}, {cause}"))
