"""Steer calls that run or wait: list, cancel, reset and edit them. Safe to use from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import msgspec

from events.attempt import Attempt
from events.bus import Bus
from events.operation_events import CallSteered
from recovery.execution.decorator import check_block, check_function
from recovery.registry import Registry
from recovery.settings import OperationConfig, Settings
from recovery.settings_check import vary
from recovery.waiting.calls import WaitingCalls
from recovery.waiting.live import LiveCall

Cancelled: TypeAlias = Literal["cancelled", "asked", ""]
"""What became of a cancellation: done; asked for, of a plain function that runs; or nothing, for such a call."""


class RunningCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A call that runs.

    Args:
        call: The id of the call.
        operation: The name of its operation.
        key: The key of the operation, such as a host; "" for none.
        attempt: The number of the attempt that runs.
        retries: Retries used up.
        elapsed: Seconds since the call began; None where nothing read the clock then.
        done: How far it has come, in units of its own (``recovery.context.progress``).
        saved: The latest checkpoint as JSON; None if there is none.
        is_async: Whether ``cancel`` cancels it; a plain function is asked.
        is_cancelled: Whether it has been told to end.
        idempotency_key: What identifies its effect; "" for none.
        arguments: Its arguments as JSON; None if it cannot be resumed.
    """

    call: str
    operation: str
    key: str
    attempt: int
    retries: int = 0
    elapsed: float | None = None
    done: float = 0.0
    saved: bytes | None = None
    is_async: bool = False
    is_cancelled: bool = False
    idempotency_key: str = ""
    arguments: bytes | None = None


class Steering:
    """Steers the calls of one service.

    Args:
        waiting: The calls that wait, and those that a runner runs.
        bus: Where ``CallSteered`` is published.
        registry: The operations that are defined.
    """

    def __init__(self, waiting: WaitingCalls, bus: Bus, registry: Registry) -> None:
        self._waiting = waiting
        self._bus = bus
        self._registry = registry

    def running(self) -> list[RunningCall]:
        """Every call that a runner runs now, in the order in which they began."""
        live, now = list(self._waiting.live.items()), self._bus.clock()
        return [_described(one, now) for call, one in live if call not in self._waiting]

    def cancel(self, call: str, reason: str = "") -> Cancelled:
        """Cancel a call; what became of that."""
        live = self._waiting.live.get(call)
        if live is not None:
            live.attempt.call.cancelled = reason  # first: a wait that begins now sees it
        if self._waiting.steer(call, "cancel", reason):
            return "cancelled"
        if live is None or live.attempt.call.is_over:
            return ""
        self._tell(live.attempt, "cancel", reason)
        if live.task is None:
            return "asked"
        live.task.cancel()
        return "cancelled"

    def reset(self, call: str, reason: str = "") -> bool:
        """Give a call its retries and its time back; whether there is such a call."""
        if self._waiting.steer(call, "reset", reason):
            return True
        live = self._waiting.live.get(call)
        if live is None or live.attempt.call.is_over:
            return False
        live.attempt.call.begin_again(self._bus.clock())
        self._tell(live.attempt, "reset", reason)
        return True

    def edit(self, call: str, settings: Mapping[str, Any], reason: str = "") -> bool:
        """Change how a call decides; whether there is such a call. Raises TypeError or ValueError as ``but`` does."""
        live, waits = self._waiting.live.get(call), self._waiting.describe(call)
        if live is not None and not live.attempt.call.is_over:
            config: OperationConfig | None = live.attempt.call.edited or live.config
        else:  # it has the config of its operation: others are live
            config = None if waits is None else self._registry.config_of(waits.operation)
        if config is None:
            return False
        if not settings:
            raise TypeError("edit() takes the settings to change: edit(call, max_retries=20)")
        if "fallback" in settings:
            raise TypeError("edit() cannot change fallback, which stands around the call; use `but` for the next call")
        edited = vary(config, cast("Settings", settings), caller="edit")
        if live is not None:
            if live.function is None:
                check_block(live.attempt.call.operation.name, edited)
            else:
                check_function(live.function, edited)
            self._registry.call_configs[call] = edited
        changes = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        if self._waiting.steer(call, "edit", reason, edited=edited, changes=changes):
            return True
        if live is not None:
            live.attempt.call.edited = edited
            self._tell(live.attempt, "edit", reason, changes)
        return live is not None

    def _tell(self, attempt: Attempt, command: str, reason: str, changes: str = "") -> None:
        attempt.call.publish(CallSteered, attempt.number, command=command, reason=reason, changes=changes)


def _described(live: LiveCall, now: float) -> RunningCall:
    attempt = live.attempt
    call = attempt.call
    return RunningCall(
        call=call.id,
        operation=call.operation.name,
        key=call.operation.key,
        attempt=attempt.number,
        retries=call.retries,
        elapsed=None if call.began is None else now - call.began,
        done=0.0 if call.progress is None else call.progress.done,
        saved=call.saved,
        is_async=live.task is not None,
        is_cancelled=call.cancelled is not None,
        idempotency_key=call.idempotency_key,
        arguments=call.arguments,
    )
