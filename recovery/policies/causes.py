"""The causes that a failure waits for: conditions, or functions from the failure to a condition."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeAlias

from events.callables import is_async, name_of
from events.conditions import Condition
from events.operation_events import FailureClassified

ConditionOf: TypeAlias = Callable[[FailureClassified], Condition | None]
"""What a failure waits for, where that depends on the failure (its host); ``None``: it does not wait."""


def conditions(wait_for: tuple[Condition | ConditionOf, ...], failure: FailureClassified) -> tuple[Condition, ...]:
    """What *failure* waits for."""
    found = []
    for cause in wait_for:
        condition = cause if isinstance(cause, Condition) else cause(failure)
        if isinstance(condition, Condition):
            found.append(condition)
        elif condition is not None:
            raise TypeError(f"wait_for: {name_of(cause)} returned {condition!r}, which is no condition")
    return tuple(found)


def check_cause(cause: object) -> None:
    """Raise TypeError unless *cause* is a condition, or a plain function of a failure."""
    if isinstance(cause, Condition):
        return
    if not callable(cause) or is_async(cause):
        raise TypeError(f"wait_for must be conditions, or plain functions from a failure to one, not {cause!r}")
    try:
        inspect.signature(cause).bind("a failure")
    except TypeError:
        raise TypeError(
            f"wait_for: {name_of(cause)} does not take one argument, the failure; "
            "a question without arguments becomes a condition: Condition('room on the disk', function)"
        ) from None
    except ValueError:  # a built-in function that does not tell its arguments
        pass
