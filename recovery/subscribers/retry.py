"""``Schedule``: the verdict of the policy and the budget on a classified failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from events.operation_events import FailureClassified
from events.own_log import own_log
from events.verdicts import GiveUp, Verdict
from recovery.policies.retry import UNSENT, decide
from recovery.settings import NO_CONFIGS, ConfigOf, OperationConfig
from recovery.subscribers.budget import RetryBudgets

log = own_log("recovery")

MAYBE_SENT = "not idempotent, and may have had its effect"


def judge(config: OperationConfig, failure: FailureClassified, draw: float) -> Verdict:
    """The verdict of *config* on *failure*, without its budget; *draw* is a random number from [0, 1)."""
    try:
        verdict = decide(config.policy, failure, draw)
    except Exception as error:  # a backoff of the user's own
        log.exception("the policy of %s cannot decide", failure.operation)
        return GiveUp(f"the policy failed, {type(error).__name__}")
    if not (config.idempotent or config.may_repeat or failure.category in UNSENT or isinstance(verdict, GiveUp)):
        return GiveUp(MAYBE_SENT)
    return verdict


class Schedule:
    """FailureClassified -> Retry, Park or GiveUp, by the operation's policy and its budget.

    An operation that is not idempotent is not retried once it may have had its effect, unless it can ``reconcile``.

    Args:
        config_of: Finds the config of an operation.
        rng: Draws from [0, 1).
        budgets: Gives the token for a retry.
        call_configs: The configs of calls that have their own, by the call's id.
    """

    def __init__(
        self,
        config_of: ConfigOf,
        rng: Callable[[], float],
        budgets: RetryBudgets,
        call_configs: Mapping[str, OperationConfig] = NO_CONFIGS,
    ) -> None:
        self._config_of = config_of
        self._call_configs = call_configs
        self._rng = rng
        self._budgets = budgets

    def on_classified(self, failure: FailureClassified) -> Verdict | None:
        """The verdict, ``None`` for an operation that is not the service's."""
        configs = self._call_configs
        config = (configs.get(failure.call) if configs else None) or self._config_of(failure.operation)
        if config is None:
            return None
        verdict = judge(config, failure, self._rng())
        return verdict if config.budget is None else self._budgets.charge(config.budget, failure, verdict)
