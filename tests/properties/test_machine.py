"""Every invariant on the service as it is, and on what users plug in; and that the machine sees what is broken."""

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
from recovery.testing.machine import RecoveryMachine

RecoveryMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestTheServiceAsItIs = RecoveryMachine.TestCase


class WithAPlugIn(RecoveryMachine):
    def plug_in(self, service: Recovery) -> None:
        answers = (None, Retry(5.0), Park(20.0, ("a cause",)), Retry(within=30.0), GiveUp("enough"))
        turn = iter(answers * 1000)
        service.bus.subscribe((FailureClassified, OperationStarted), lambda _: next(turn))


WithAPlugIn.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestAPlugInCanOnlyMakeItStricter = WithAPlugIn.TestCase


class WithOnePolicy(RecoveryMachine):
    policies = st.just(RetryPolicy(max_retries=2, max_elapsed=30.0))


WithOnePolicy.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestAPolicyOfOnesOwn = WithOnePolicy.TestCase


def forgets_to_classify(service: Recovery) -> None:
    [seat] = [one for one in service.bus.signal(FailureClassified).receivers.values() if "Schedule" in repr(one)]
    seat.function = lambda failure: Retry(0.0)


def waits_past_the_deadline(service: Recovery) -> None:
    [seat] = [one for one in service.bus.signal(FailureClassified).receivers.values() if "Schedule" in repr(one)]
    seat.function = lambda failure: None if failure.category == "permanent" else Retry(1000.0)


@pytest.mark.parametrize("bug", [forgets_to_classify, waits_past_the_deadline])
def test_the_machine_sees_a_stage_that_is_broken(bug: Any) -> None:
    class Broken(WithOnePolicy):
        def plug_in(self, service: Recovery) -> None:
            bug(service)

    quick = settings(
        max_examples=300,
        stateful_step_count=20,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Broken, settings=quick)
