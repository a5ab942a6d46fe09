"""The stages between a failure and the decision: ``Classify`` says what it means, ``Schedule`` what to do.

``Break``, the third, keeps the circuits and has a module of its own (``recovery.circuits``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from events.errors import Permanent, Retryable
from events.facts import Category, Evidence, FailureClassified, OperationFailed
from events.verdicts import Verdict
from recovery.classify import Classification, Classifier, classify, worst
from recovery.evidence import causes, gather, leaves, spent_by
from recovery.plan import Plan
from recovery.policy import decide

log = logging.getLogger("recovery")

PlanOf: TypeAlias = Callable[[str], Plan | None]
"""Finds the plan of an operation by name; ``None`` for an operation that the service does not know."""


class Classify:
    """OperationFailed -> FailureClassified: takes the evidence, and asks the rules in order.

    The mark of an inner recoverable call comes first, then ``Permanent`` and ``Retryable``, the operation's
    ``retry_on``, its ``classifier``, and last the built-in table. Of a group, every leaf is judged; the worst counts.
    """

    def __init__(self, plan_of: PlanOf, enabled: Callable[[], bool]) -> None:
        self._plan_of = plan_of
        self._enabled = enabled

    def __call__(self, failed: OperationFailed) -> FailureClassified | None:
        """What *failed* means, or ``None`` for an operation that is not the service's."""
        plan = self._plan_of(failed.operation)
        if plan is None:
            return None
        answer, evidence = self._judge(failed.error, plan, failed.operation)
        return FailureClassified(
            at=failed.at,
            operation=failed.operation,
            key=failed.key,
            call=failed.call,
            attempt=failed.attempt,
            category=answer.category,
            rule=answer.rule,
            evidence=evidence,
            retries=failed.retries,
            elapsed=failed.elapsed,
            waited=failed.waited,
        )

    def _judge(self, error: Exception, plan: Plan, operation: str) -> tuple[Classification, Evidence]:
        said = self._declared(error, plan, operation)
        if said is not None or not isinstance(error, ExceptionGroup):
            evidence = gather(error)
            return said or self._rule(evidence, plan, operation), evidence
        judged = []
        for leaf in leaves(error):
            evidence = gather(leaf)
            answer = self._declared(leaf, plan, operation) or self._rule(evidence, plan, operation)
            judged.append((answer, evidence))
        gravest = worst([answer for answer, _ in judged]).category
        same = [one for one in judged if one[0].category is gravest]
        return max(same, key=lambda one: one[1].retry_after or 0.0)  # of several waits, the longest

    def _declared(self, error: BaseException, plan: Plan, operation: str) -> Classification | None:
        """What somebody has said of this very error, whatever the rules say."""
        spent = None if plan.retry_spent else spent_by(error, operation)
        if spent is None and isinstance(error, Permanent):
            return Classification(Category.PERMANENT, "Permanent")
        if spent is None and isinstance(error, Retryable):
            return Classification(Category.TRANSIENT, "Retryable")
        if spent is None and not plan.retry_spent:
            spent = next((who for cause in causes(error) if (who := spent_by(cause, operation))), None)
        if spent is not None:
            return Classification(Category.SPENT, f"{spent} has tried already")
        if plan.retry_on is not None and isinstance(error, plan.retry_on):
            return Classification(Category.TRANSIENT, "retry_on")
        return None

    def _rule(self, evidence: Evidence, plan: Plan, operation: str) -> Classification:
        if plan.retry_on is not None:
            return Classification(Category.PERMANENT, "retry_on")
        if plan.classifier is not None:
            answer = self._ask(plan.classifier, evidence, operation)
            if answer is not None:
                return answer
        if not (self._enabled() if plan.classification is None else plan.classification):
            return Classification(Category.TRANSIENT, "classification is off")
        return classify(evidence)

    def _ask(self, classifier: Classifier, evidence: Evidence, operation: str) -> Classification | None:
        """The operation's own classifier; one that is broken is logged, and the built-in rules decide."""
        try:
            answer = classifier(evidence)
            if answer is None or isinstance(answer, Classification):
                return answer
            return Classification(Category(answer), "classifier")
        except Exception:
            log.exception("the classifier of %s failed; the built-in rules decide", operation)
            return None


class Schedule:
    """FailureClassified -> Retry, Park or GiveUp, as the operation's policy wants it. *chance* draws from [0, 1)."""

    def __init__(self, plan_of: PlanOf, chance: Callable[[], float]) -> None:
        self._plan_of = plan_of
        self._chance = chance

    def __call__(self, failure: FailureClassified) -> Verdict | None:
        """The policy's verdict, or ``None`` for an operation that is not the service's."""
        plan = self._plan_of(failure.operation)
        return None if plan is None else decide(plan.policy, failure, self._chance())
