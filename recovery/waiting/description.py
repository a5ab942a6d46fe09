"""What people and programs see of a call that waits."""

from __future__ import annotations

import math

import msgspec

from events.event import CallEvent
from events.operation_events import FailureClassified, OperationStarted
from recovery.explain import Explanation, explain, moment, waits_for
from recovery.policies.sentences import Stands


class WaitingCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that waits.

    Args:
        call: The id of the call.
        operation: The name of its operation.
        key: The key of the operation, such as a host; "" for none.
        attempt: The number of the attempt that the call waits for.
        retries: Retries used up, the next attempt included if it is one.
        left: Seconds left of its delay; infinite for a call that asks.
        within: Seconds until its wait ends at the latest; infinite if it has no end.
        due: When its delay ends, on the clock of the service; infinite for a call that asks, or is paused.
        deadline: When its wait ends at the latest, on that clock.
        until: What it waits for besides: names of conditions, causes such as an open circuit.
        is_paused: Whether its delay stands still.
        asks_person: Whether it has no retries left, and waits until a person says ``retry_now`` or ``give_up``.
        failure: What its latest attempt failed with; None if none has failed in this process, or it was not classified.
        idempotency_key: What identifies its effect; "" for none.
        arguments: Its arguments as JSON; None if it cannot be resumed.
    """

    call: str
    operation: str
    key: str
    attempt: int
    retries: int = 0
    left: float
    within: float = math.inf
    due: float = math.inf
    deadline: float = math.inf
    until: tuple[str, ...] = ()
    is_paused: bool = False
    asks_person: bool = False
    failure: FailureClassified | None = None
    idempotency_key: str = ""
    arguments: bytes | None = None

    def explain(self) -> Explanation:
        """What people read about it: what its latest failure means, which call it is, what it waits for."""
        event = self.failure or OperationStarted(at=0.0, operation=self.operation, key=self.key, call=self.call)
        if self.asks_person:
            step = "no retries are left: retry, or give up?"
            return self._explained(event, step, "asks")
        when = "paused" if self.is_paused else moment(self.left)
        causes = f"{waits_for('; '.join(self.until))}, " if self.until else ""
        step = f"{causes}attempt {self.attempt} {when}"
        return self._explained(event, step, "" if self.is_paused else "waits" if self.until else "retries")

    def _explained(self, event: CallEvent, step: str, stands: Stands) -> Explanation:
        return explain(event, idempotency_key=self.idempotency_key, arguments=self.arguments, step=step, stands=stands)
