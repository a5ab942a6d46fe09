"""Calls that a cluster owns: run one leg of a call under a lease, and keep outcomes that cannot be delivered.

    operation = leased.operation(service, "render")
    ending = await operation.run(leased.LeasedCall(id="render/job-7", fence=12, arguments=data))

A leg makes attempts as any call does, with the same settings, subscribers and verdicts. It waits for a retry, or for
what defers an attempt, if that takes a moment; otherwise it ends as ``Postponed``, with the state that the next leg
begins with, on any node. The local journal has its events, and never resumes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from events.callables import is_async
from recovery import leased_calls
from recovery.execution.leased_runner import LeasedHeldRunner, LeasedRunner, Leg, always
from recovery.held_outcomes import id_of
from recovery.leased_calls import Cancelled as Cancelled
from recovery.leased_calls import Ending as Ending
from recovery.leased_calls import Failed as Failed
from recovery.leased_calls import LeasedCall as LeasedCall
from recovery.leased_calls import Postponed as Postponed
from recovery.leased_calls import Succeeded as Succeeded
from recovery.leased_calls import after_death as after_death
from recovery.leased_calls import later as later
from recovery.leased_calls import retried as retried
from recovery.leased_run import LeasedRun, failed
from recovery.serialization.arguments import ArgumentCodec
from recovery.serialization.results import ResultCodec
from recovery.service import Recovery
from recovery.settings import OnConflict, OperationConfig

if TYPE_CHECKING:
    from recovery.operations import Definition

KEEP = 2.0
"""Seconds of a wait that a leg waits itself, by default."""


class HeldOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that the cluster has not taken yet.

    Args:
        call: The id of the call in the cluster.
        fence: The fence under which it ran.
        data: The outcome, as it was given to ``hold``.
    """

    call: str
    fence: int
    data: bytes


class LeasedOperation:
    """An operation of a service, for the legs of its calls. Made by ``operation``."""

    def __init__(self, service: Recovery, definition: Definition, function: Callable[..., Any]) -> None:
        self._definitions = service._definitions
        self._definition = definition
        self.function = function
        """The function that its calls run."""
        self._arguments, self._results = ArgumentCodec(function), ResultCodec(function)
        self.name: str = definition.operation.name
        """Its name."""
        self.is_async: bool = is_async(function)
        """Whether its function is async."""

    def __repr__(self) -> str:
        return f"<LeasedOperation {self.name}>"

    @property
    def _config(self) -> OperationConfig:
        return self._definition.config

    @property
    def version(self) -> str:
        """The setting ``version``."""
        return self._config.version

    @property
    def cluster(self) -> str:
        """The setting ``cluster``: "optional" or "required"."""
        return self._config.cluster

    @property
    def on_conflict(self) -> OnConflict:
        """The setting ``on_conflict``: "join" or "reject"."""
        return self._config.on_conflict

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments of a call as JSON.

        Raises:
            TypeError: They do not fit the signature of the function.
            ValueError: They would not come back exactly as they are, or are too large.
        """
        self._arguments.named(args, kwargs)
        return self._arguments.encoded(args, kwargs)

    def digest(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """SHA-256 of the arguments, as hexadecimal digits: equal for equal ones, however they are passed."""
        return hashlib.sha256(self._arguments.identity(args, kwargs)).hexdigest()

    def decode(self, arguments: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What ``encode`` was given. Raises ValueError if it does not fit the function."""
        return self._arguments.decoded(arguments)

    def key_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The idempotency key of a call with these arguments; "" for none. An error of the setting passes.

        Raises:
            TypeError: The setting ``idempotency_key`` returned None.
        """
        if self._config.idempotency_key is None:
            return ""
        key = self._config.idempotency_key(*args, **kwargs)
        if key is None:
            raise TypeError(f"the idempotency_key of {self.name} returned None; return a text, or '' for no key")
        return str(key)

    def encode_result(self, result: object) -> bytes:
        """A result as JSON. Raises ValueError if it would not come back exactly as it is, or is too large."""
        return self._results.encoded(result)

    def decode_result(self, data: bytes) -> Any:
        """What ``encode_result`` was given. Raises ValueError if it does not fit the annotation."""
        return self._results.decoded(data)

    async def run(self, call: LeasedCall, *, keep: float = KEEP, is_held: Callable[[], bool] = always) -> Ending:
        """Run one leg of *call*: an async function in this task, a plain one in a thread.

        Where this task is cancelled, so is an async function; a plain one sees ``context.cancelled()`` and runs on, and
        its outcome is lost.

        Args:
            call: Where the call stands.
            keep: Seconds of a wait that are waited for here.
            is_held: Whether the lease still lasts, by this process's own clock; by default it does. Asked before each
                attempt, from any thread: without a lease none begins, and the call is handed back.
        """
        if call.asks_person:
            return Postponed(after=math.inf, why="a person says retry or give up", state=call, asks_person=True)
        try:
            args, kwargs = self.decode(call.arguments)
            config = self._config
            keyed = "" if config.key is None else str(config.key(*args, **kwargs))
        except Exception as error:  # the arguments come from another machine, and the key is a function of the user
            return failed(error, "its arguments cannot be used here", call.attempt - 1)
        definition, legs = self._definition, self._definitions.legs
        of, is_on = definition.keyed(keyed), definition.switch.is_on
        leg = LeasedRun(config, of, self._runner, self.encode_result, legs, call, keep, is_held, is_on=is_on)
        return await leg.run(args, kwargs)

    def _runner(self, leg: Leg) -> LeasedRunner:
        made = self._definitions
        of = self.function, self._definition, made.waiting, _no_journal
        config = msgspec.structs.replace(self._config, durability="journal", remember=None)
        if config.has_holds:
            return LeasedHeldRunner(leg, made.holds, *of, config)
        return LeasedRunner(leg, *of, config)


def _no_journal() -> None:
    """The journal of a leg's runner: the cluster remembers the call, and its attempts wait for no commit here."""


def names(service: Recovery) -> list[str]:
    """The names of the functions of *service* that are made recoverable."""
    return sorted(service._definitions.names())


def operation(service: Recovery, name: str) -> LeasedOperation:
    """The operation *name* of *service*: a function that is made recoverable.

    Raises:
        LookupError: There is none; the message lists the names that there are.
    """
    found = service._definitions.leased(name)
    if found is None:
        names = ", ".join(sorted(service._definitions.names())) or "none"
        raise LookupError(f"no function is defined as the operation {name!r}; there are: {names}")
    return LeasedOperation(service, *found)


def why_quarantined(operation: LeasedOperation, call: LeasedCall, came_further: bool = False) -> str | None:
    """Why a person must look first at *call*, whose node died in a leg that began so; None if it may go on.

    After that, give it ``after_death`` and, where a person says so, ``retries=0, deaths=0``.
    """
    return leased_calls.why_quarantined(call, operation._config, came_further)


def hand_back(service: Recovery, local_id: str, reason: str) -> bool:
    """End the leg soon, without an outcome: its ending is Postponed(after=0, why=reason). Returns whether it runs.

    An async body is cancelled; a plain one sees ``context.cancelled()``. A result that it returns all the same counts.
    Callable from any thread.
    """
    leg = service._definitions.legs.get(local_id)
    if leg is None:
        return False
    leg.handed_back = reason
    service.calls.cancel(local_id, reason)
    return True


def hold(service: Recovery, call: str, fence: int, data: bytes, *, operation: str = "") -> HeldOutcome:
    """Keep the outcome of *call* until the cluster takes it: in the service's journal, if it has a store.

    Args:
        service: The service that ran it.
        call: The id of the call in the cluster.
        fence: The fence under which it ran.
        data: The outcome, as the cluster is to get it.
        operation: The name of its operation, for those who read the journal.
    """
    service._definitions.outcomes.hold(operation, call, fence, data)
    return HeldOutcome(call=call, fence=fence, data=data)


def held(service: Recovery) -> list[HeldOutcome]:
    """The outcomes that the cluster has not taken, those of dead processes of this journal included.

    Blocks for at most a few seconds, while the journal is read.
    """
    return [HeldOutcome(call=one.of, fence=one.fence, data=one.data) for one in service._definitions.outcomes.held()]


def settle(service: Recovery, outcome: HeldOutcome, superseded: str | None = None) -> bool:
    """The cluster has answered for *outcome*: it is not held any more. Returns whether it was.

    Args:
        service: The service that holds it.
        outcome: Which one.
        superseded: Why the cluster does not take it; None for an outcome that it has taken.
    """
    return service._definitions.outcomes.settle(id_of(f"{outcome.call}@{outcome.fence}"), superseded)
