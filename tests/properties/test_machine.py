"""Every invariant, on the service alone and with a plug-in; and that the machine notices a broken stage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from events.operation_events import FailureClassified, OperationStarted
from events.verdicts import GiveUp, Park, Retry
from recovery.policies.retry import RetryPolicy
from recovery.service import Recovery
from recovery.subscribers.retry import Schedule
from recovery.testing.machine import RecoveryMachine
from tests.slow import few

EVERY = settings.default.max_examples
SOME = EVERY if EVERY > 100 else EVERY // 2  # `make props` has them all
HALF = EVERY // 2

RecoveryMachine.TestCase.settings = settings(max_examples=SOME, stateful_step_count=40)
TestTheServiceAlone = RecoveryMachine.TestCase


class WithAPlugIn(RecoveryMachine):
    def plug_in(self, service: Recovery) -> None:
        answers = (None, Retry(5.0), Park(20.0, ("a cause",)), Retry(within=30.0), GiveUp("enough"))
        next_answer = iter(answers * 1000).__next__
        service.bus.subscribe((FailureClassified, OperationStarted), lambda _: next_answer())


WithAPlugIn.TestCase.settings = settings(max_examples=SOME // 2, stateful_step_count=40)
TestAPlugInCanOnlyMakeItStricter = WithAPlugIn.TestCase


class WithOnePolicy(RecoveryMachine):
    policies = st.just(RetryPolicy(max_retries=2, max_elapsed=30.0))


WithOnePolicy.TestCase.settings = settings(max_examples=HALF, stateful_step_count=40)
TestAUsersPolicy = pytest.mark.slow(WithOnePolicy.TestCase)


def retry_everything(schedule: Schedule, failure: FailureClassified) -> Retry:
    return Retry(0.0)


def wait_past_the_deadline(schedule: Schedule, failure: FailureClassified) -> Retry | None:
    return None if failure.category == "permanent" else Retry(1000.0)


@pytest.mark.parametrize("bug", few([retry_everything, wait_past_the_deadline], retry_everything))
def test_the_machine_notices_a_broken_stage(bug: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Schedule, "on_classified", bug)
    quick = settings(
        max_examples=300,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(WithOnePolicy, settings=quick)
