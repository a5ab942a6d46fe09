"""What a failure means: ``classify`` for any exception, ``Classify`` for the failures on a bus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from events.callables import name_of
from events.errors import NeedsPerson, Permanent, RecoveryError, Retryable, UnwantedResult
from events.evidence import Category, Evidence
from events.operation_events import FailureClassified, OperationFailed
from events.own_log import own_log
from events.verdicts import GiveUp
from recovery.operations import Switch
from recovery.policies.classification import Classification, Classifier, Front, by_type, classify_evidence, worst
from recovery.policies.jumps import may_wait
from recovery.policies.retry import UNSENT, reset_by_progress
from recovery.policies.rules import front_of
from recovery.policies.steering import STEERING
from recovery.settings import NO_CONFIGS, ConfigOf, OperationConfig
from recovery.subscribers.evidence_extraction import LEVELS, extract_evidence, leaves, remedy_of
from recovery.subscribers.exhausted import exhausted_by
from recovery.subscribers.guarded_reading import is_exception

Excuses: TypeAlias = Callable[[OperationFailed], tuple[bool, float]]
"""Whether a failure is due to a jump of the clock; and how many seconds of its *elapsed* the process stood still."""

ON = Switch()
SWITCHED_OFF = GiveUp("recovery is switched off")

log = own_log("recovery")


def classify(error: BaseException | Evidence) -> Classification:
    """What a failure means by the built-in rules: its category, the rule that chose it, and the seconds to wait.

        classify(ConnectionRefusedError()).category  # Category.UNREACHABLE

    The rules of a service or of an operation (``classifier``, ``retry_on``) are not asked. A group of exceptions is as
    bad as its worst leaf; of the waits that its leaves ask for, the longest counts. What is no ``Exception``
    (KeyboardInterrupt, SystemExit, a cancellation) is no failure: its category is CANCELLED.

    Args:
        error: An exception, or the evidence that was taken from one.

    Raises:
        TypeError: *error* is neither.
    """
    if type(error) is Evidence:  # not isinstance, which asks __class__
        answer = classify_evidence(error)
        return msgspec.structs.replace(answer, retry_after=_asked(answer, error))
    if not is_exception(error):
        raise TypeError(f"classify() takes an exception or Evidence, not {error!r}")
    judged = []
    for leaf in leaves(error):
        if not issubclass(type(leaf), Exception):
            return Classification(Category.CANCELLED, type(leaf).__name__)
        evidence = extract_evidence(leaf)
        answer = _steers(evidence) or classify(evidence)
        judged.append(msgspec.structs.replace(answer, remedy=remedy_of(leaf)))
    longest = max(answer.retry_after or 0.0 for answer in judged)
    return msgspec.structs.replace(worst(judged), retry_after=longest or None)


class Meaning(NamedTuple):
    """What the errors of a class mean, the evidence of one, and whether their text decides, too."""

    answer: Classification
    evidence: Evidence
    is_by_text: bool = False


class Classify:
    """OperationFailed -> FailureClassified: extracts the evidence, and asks the rules in order.

    What steers a framework is passed on. The mark of an inner recoverable call comes next, then ``Permanent``,
    ``Retryable`` and ``NeedsPerson``, the operation's ``retry_on``, what ``retry_if_error`` has answered, its
    ``classifier``, the classifiers of the service, and last the built-in rules. A group is as bad as its worst leaf.
    The remedy of a rule counts more than that which an error bears.

    Args:
        config_of: Finds the config of an operation.
        call_configs: The configs of calls that have their own, by the call's id.
        switch: Whether the service recovers from failures.
        enabled: Whether operations that leave it open use the built-in rules; may be changed at any time.
        classifiers: The classifiers of the service; may be changed at any time.
        excuses: Whether a failure is due to a jump of the clock, if it may be retried after a delay.
    """

    def __init__(
        self,
        config_of: ConfigOf,
        call_configs: Mapping[str, OperationConfig] = NO_CONFIGS,
        switch: Switch = ON,
        *,
        enabled: bool = True,
        classifiers: tuple[Classifier, ...] = (),
        excuses: Excuses = lambda _: (False, 0.0),
    ) -> None:
        self._switch = switch
        self._config_of = config_of
        self._call_configs = call_configs
        self._excuses = excuses
        self.enabled = enabled
        self.classifiers = classifiers

    def on_failure(self, failed: OperationFailed) -> FailureClassified | GiveUp | None:
        """The classified failure, ``None`` for an operation that is not the service's."""
        if not self._switch.is_on:
            return SWITCHED_OFF
        configs = self._call_configs
        config = (configs.get(failed.call) if configs else None) or self._config_of(failed.operation)
        if config is None:
            return None
        error = failed.error
        evidence = extract_evidence(error)
        bearer: BaseException = error
        answer = self._declared(error, evidence, config, failed.operation)
        if answer is None and failed.retryable is not None:
            answer = Classification(Category.TRANSIENT if failed.retryable else Category.PERMANENT, "retry_if_error")
        if answer is None:
            if issubclass(type(error), ExceptionGroup):  # not isinstance, which asks __class__
                answer, evidence, bearer = self._worst_of(error, config, failed.operation)
            else:
                answer = self._rule(evidence, config, failed.operation)
        retries, progress_resets = (
            reset_by_progress(config.policy, failed) if failed.progressed else (failed.retries, failed.progress_resets)
        )
        asked = _asked(answer, evidence)
        is_later = may_wait(config.policy, answer.category, retries + 1, asked)
        uncharged, stopped = self._excuses(failed) if is_later else (False, 0.0)
        return FailureClassified(
            at=failed.at,
            operation=failed.operation,
            key=failed.key,
            call=failed.call,
            attempt=failed.attempt,
            category=answer.category,
            rule=answer.rule,
            why=answer.why,
            retry_after=asked,
            evidence=evidence,
            retries=retries,
            elapsed=failed.elapsed - stopped,
            waited=failed.waited,
            done=failed.done,
            progress_resets=progress_resets,
            uncharged=uncharged,
            remedy=answer.remedy or remedy_of(bearer),
        )

    def of_class(self, error: Exception, config: OperationConfig, operation: str) -> Meaning | None:
        """What every error of the class of *error* means for which ``is_plain`` holds; ``None`` where more decides."""
        if config.classifiers or self.classifiers or not self._switch.is_on:
            return None
        evidence = extract_evidence(error)
        answer = self._declared(error, evidence, config, operation)
        if answer is not None:
            return Meaning(answer, evidence) if answer.rule == "retry_on" else None
        is_by_text = config.retry_on is None and self._asks_rules(config) and not by_type(evidence.type, evidence.kinds)
        return Meaning(self._rule(evidence, config, operation), evidence, is_by_text)

    def _worst_of(
        self, error: Exception, config: OperationConfig, operation: str
    ) -> tuple[Classification, Evidence, BaseException]:
        judged = []
        for leaf in leaves(error):
            evidence = extract_evidence(leaf)
            answer = self._declared(leaf, evidence, config, operation) or self._rule(evidence, config, operation)
            judged.append((answer, evidence, leaf))
        asked = max((_asked(answer, evidence) or 0.0 for answer, evidence, _ in judged), default=0.0)
        if not config.may_repeat:  # a failure that may have had its effect outweighs one that cannot have
            judged = [one for one in judged if one[0].category not in UNSENT] or judged
        gravest = worst([answer for answer, _, _ in judged]).category
        answer, evidence, leaf = next(one for one in judged if one[0].category is gravest)
        return (
            msgspec.structs.replace(answer, retry_after=asked or None),
            evidence,
            leaf,
        )  # of several waits, the longest

    def _declared(
        self, error: BaseException, evidence: Evidence, config: OperationConfig, operation: str
    ) -> Classification | None:
        """What the error itself, a mark on it, or ``retry_on`` declares, which no rule overrides."""
        kind = type(error)  # isinstance asks __class__, which may lie or raise
        if issubclass(kind, ExceptionGroup) or not STEERING.isdisjoint((evidence.type, *evidence.kinds)):
            for leaf in leaves(error):
                if (answer := _steers(extract_evidence(leaf, depth=0), config)) is not None:
                    return answer
        exhausted = None if config.retry_exhausted else exhausted_by(error, operation)
        if issubclass(kind, RecoveryError):
            if exhausted is None and issubclass(kind, Permanent):
                return Classification(Category.PERMANENT, "Permanent")
            if exhausted is None and issubclass(kind, Retryable):
                return Classification(Category.TRANSIENT, "Retryable")
            if exhausted is None and issubclass(kind, NeedsPerson):
                return Classification(Category.AUTH, "NeedsPerson")
            if issubclass(kind, UnwantedResult):
                return Classification(Category.TRANSIENT, "retry_if")
        if exhausted is None and evidence.cause is not None and not config.retry_exhausted:
            exhausted = exhausted_by(error, operation, levels=LEVELS)
        if exhausted is not None:
            return Classification(Category.EXHAUSTED, f"{exhausted} has tried already")
        if config.retry_on is not None and issubclass(kind, config.retry_on):
            return Classification(Category.TRANSIENT, "retry_on")
        return None

    def _rule(self, evidence: Evidence, config: OperationConfig, operation: str) -> Classification:
        if config.retry_on is not None:
            return Classification(Category.PERMANENT, "retry_on")
        classifiers = config.classifiers + self.classifiers
        front = self._front(classifiers, operation) if classifiers else None
        if self._asks_rules(config):
            return classify_evidence(evidence, front)
        return (front and front(evidence)) or Classification(Category.TRANSIENT, "classification is off")

    def _asks_rules(self, config: OperationConfig) -> bool:
        return self.enabled if config.classification is None else config.classification

    def _front(self, classifiers: tuple[Classifier, ...], operation: str) -> Front:
        """The classifiers of the operation and of the service as one; one that raises is logged and skipped."""

        def failed(classifier: Classifier, error: Exception) -> None:
            name = name_of(classifier)
            log.error("the classifier of %s failed (%s); the next rule decides", operation, name, exc_info=error)

        return front_of(classifiers, failed)


def _steers(evidence: Evidence, config: OperationConfig | None = None) -> Classification | None:
    """The classification of an error that steers a framework, unless *config* names such a class in ``retry_on``."""
    if STEERING.isdisjoint((evidence.type, *evidence.kinds)):
        return None
    bases = [base for kind in (config and config.retry_on) or () for base in kind.__mro__]
    if not STEERING.isdisjoint(f"{base.__module__}.{base.__qualname__}" for base in bases):
        return None
    return Classification(Category.CANCELLED, evidence.type)


def _asked(answer: Classification, evidence: Evidence | None) -> float | None:
    """The seconds to wait that the rule asks for, or else the server that answered, in this error or in a cause."""
    asked = answer.retry_after
    while asked is None and evidence is not None:
        asked, evidence = evidence.retry_after, evidence.cause
    return asked
