"""The stages between a failure and the decision: ``Classify`` says what it means, ``Schedule`` what to do.

``Break``, the third, keeps the circuits and has a module of its own (``recovery.subscribers.circuit_breaker``).
"""

from __future__ import annotations

import logging

import msgspec

from events.callables import name_of
from events.errors import Permanent, RecoveryError, Retryable, UnwantedResult
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationFailed
from recovery.policies.classification import Classification, Classifier, Front, classify, worst
from recovery.policies.retry import UNSENT, refilled
from recovery.policies.rules import front_of
from recovery.settings import Plan, PlanOf
from recovery.subscribers.evidence_extraction import gather, leaves
from recovery.subscribers.exhausted import cause_spent_by, spent_by

log = logging.getLogger("recovery")


class Classify:
    """OperationFailed -> FailureClassified: takes the evidence, and asks the rules in order.

    The mark of an inner recoverable call comes first, then ``Permanent`` and ``Retryable``, the operation's
    ``retry_on``, its ``classifier``, the *classifiers* of the service, and last the built-in table. Of a group, every
    leaf is judged; the worst counts. ``enabled`` says whether the service wants the built-in table asked, *classifiers*
    are the service's; both may be changed at any time.
    """

    def __init__(self, plan_of: PlanOf, *, enabled: bool = True, classifiers: tuple[Classifier, ...] = ()) -> None:
        self._plan_of = plan_of
        self.enabled = enabled
        self.classifiers = classifiers

    def hear(self, failed: OperationFailed) -> FailureClassified | None:
        """What *failed* means, or ``None`` for an operation that is not the service's."""
        plan = self._plan_of(failed.operation)
        if plan is None:
            return None
        error = failed.error
        evidence = gather(error)
        answer = self._declared(error, evidence, plan, failed.operation)
        if answer is None:
            if isinstance(error, ExceptionGroup):
                answer, evidence = self._worst_of(error, plan, failed.operation)
            else:
                answer = self._rule(evidence, plan, failed.operation)
        retries, refills = refilled(plan.policy, failed) if failed.progressed else (failed.retries, failed.refills)
        return FailureClassified(
            at=failed.at,
            operation=failed.operation,
            key=failed.key,
            call=failed.call,
            attempt=failed.attempt,
            category=answer.category,
            rule=answer.rule,
            why=answer.why,
            retry_after=_asked(answer, evidence),
            evidence=evidence,
            retries=retries,
            elapsed=failed.elapsed,
            waited=failed.waited,
            done=failed.done,
            refills=refills,
        )

    def _worst_of(
        self, error: ExceptionGroup[Exception], plan: Plan, operation: str
    ) -> tuple[Classification, Evidence]:
        judged = []
        for leaf in leaves(error):
            evidence = gather(leaf)
            answer = self._declared(leaf, evidence, plan, operation) or self._rule(evidence, plan, operation)
            judged.append((answer, evidence))
        asked = max((_asked(answer, evidence) or 0.0 for answer, evidence in judged), default=0.0)
        if not plan.may_repeat:  # what may have been done weighs more than what was not
            judged = [one for one in judged if one[0].category not in UNSENT] or judged
        gravest = worst([answer for answer, _ in judged]).category
        answer, evidence = next(one for one in judged if one[0].category is gravest)
        return msgspec.structs.replace(answer, retry_after=asked or None), evidence  # of several waits, the longest

    def _declared(self, error: BaseException, evidence: Evidence, plan: Plan, operation: str) -> Classification | None:
        """What somebody has said of this very error, whatever the rules say."""
        spent = None if plan.retry_spent else spent_by(error, operation)
        if isinstance(error, RecoveryError):
            if spent is None and isinstance(error, Permanent):
                return Classification(Category.PERMANENT, "Permanent")
            if spent is None and isinstance(error, Retryable):
                return Classification(Category.TRANSIENT, "Retryable")
            if isinstance(error, UnwantedResult):
                return Classification(Category.TRANSIENT, "retry_if")
        if spent is None and evidence.cause is not None and not plan.retry_spent:
            spent = cause_spent_by(error, operation)
        if spent is not None:
            return Classification(Category.SPENT, f"{spent} has tried already")
        if plan.retry_on is not None and isinstance(error, plan.retry_on):
            return Classification(Category.TRANSIENT, "retry_on")
        return None

    def _rule(self, evidence: Evidence, plan: Plan, operation: str) -> Classification:
        if plan.retry_on is not None:
            return Classification(Category.PERMANENT, "retry_on")
        classifiers = plan.classifiers + self.classifiers
        front = self._front(classifiers, operation) if classifiers else None
        if self.enabled if plan.classification is None else plan.classification:
            return classify(evidence, front)
        return (front and front(evidence)) or Classification(Category.TRANSIENT, "classification is off")

    def _front(self, classifiers: tuple[Classifier, ...], operation: str) -> Front:
        """The classifiers of the operation and of the service; one that breaks is logged, and the next is asked."""

        def failed(classifier: Classifier, error: Exception) -> None:
            name = name_of(classifier)
            log.error("the classifier of %s failed (%s); what comes after it decides", operation, name, exc_info=error)

        return front_of(classifiers, failed)


def _asked(answer: Classification, evidence: Evidence | None) -> float | None:
    """The seconds that somebody wants waited: the rule, the server that answered, or one that a cause has asked."""
    asked = answer.retry_after
    while asked is None and evidence is not None:
        asked, evidence = evidence.retry_after, evidence.cause
    return asked
