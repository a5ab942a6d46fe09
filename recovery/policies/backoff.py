"""How long to wait before a retry: pure; randomness is an argument.

*full* jitter spreads a herd of retries best, *equal* keeps half of the delay, *decorrelated* draws from the first delay
to three times the previous one; before the first retry, to three times the first.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import force_setattr as force

from recovery import validation
from recovery.suggestions import Suggesting

Jitter: TypeAlias = Literal["none", "full", "equal", "decorrelated"]
JITTERS: tuple[Jitter, ...] = ("none", "full", "equal", "decorrelated")

LARGEST = 1e9
"""The most seconds that a backoff asks for."""

MAX_GROWTH = 60.0
"""The most seconds that a delay grows to where no cap is set; a delay that is named is kept, however long."""


class Constant(msgspec.Struct, metaclass=Suggesting, frozen=True, tag=True):
    """The same delay before each retry.

    Args:
        delay: Seconds.
    """

    delay: float

    def __post_init__(self) -> None:
        force(self, "delay", validation.number("delay", self.delay))  # a float: ints overflow in their own way


class Linear(msgspec.Struct, metaclass=Suggesting, frozen=True, tag=True):
    """A delay that grows by the same step with each retry.

    Args:
        initial: Seconds before the first retry.
        step: Seconds that each later retry waits longer.
    """

    initial: float
    step: float

    def __post_init__(self) -> None:
        force(self, "initial", validation.number("initial", self.initial))
        force(self, "step", validation.number("step", self.step))


class Exponential(msgspec.Struct, metaclass=Suggesting, frozen=True, tag=True):
    """A delay that grows by the same factor with each retry.

    Args:
        initial: Seconds before the first retry.
        factor: How many times longer each later retry waits; at least 1.
    """

    initial: float = 0.1
    factor: float = 2.0

    def __post_init__(self) -> None:
        force(self, "initial", validation.number("initial_delay", self.initial))
        force(self, "factor", validation.number("backoff_factor", self.factor, least=1.0))


Backoff: TypeAlias = Constant | Linear | Exponential | tuple[float, ...] | Callable[[int], float]
"""A shape, a list of delays (the last one repeats), or a function from the retry's number (from 1) to seconds."""


def base_delay(backoff: Backoff, retry: int) -> float:
    """Seconds before retry number *retry* (from 1) without jitter or cap, between 0 and ``LARGEST``.

    The result of a function is clamped to that range; a NaN counts as ``LARGEST``. Raises what the function raises.
    """
    match backoff:
        case Exponential():  # without patterns inside: they take longer than the whole arithmetic
            asked = backoff.initial
            if retry > 1 and asked > 0.0:
                # As logarithms first: pow raises OverflowError long before a retry number stops growing.
                growth = (retry - 1) * math.log(backoff.factor)
                if growth < 700.0:
                    asked *= backoff.factor ** (retry - 1)
                else:
                    power = math.log(asked) + growth
                    asked = LARGEST if power >= math.log(LARGEST) else math.exp(power)
        case Constant(delay):
            asked = delay
        case Linear(initial, step):
            asked = initial + step * (retry - 1)
        case tuple():
            asked = backoff[min(retry, len(backoff)) - 1]
        case _:
            asked = float(min(backoff(retry), LARGEST))  # at most LARGEST first: no float can hold some ints
    if 0.0 <= asked <= LARGEST:
        return asked
    return 0.0 if asked < 0.0 else LARGEST


def delay(
    backoff: Backoff, jitter: Jitter, cap: float | msgspec.UnsetType, *, retry: int, previous: float, draw: float
) -> float:
    """Seconds to wait before a retry: at least 0, at most *cap*.

    The base delay is capped first and jittered within the cap: jittered first, all capped delays would be equal.

    Args:
        backoff: The delays without jitter.
        jitter: How they are randomized.
        cap: The most seconds. Unset caps growth alone, at ``MAX_GROWTH``: the first delay of a ``Linear`` or an
            ``Exponential`` is kept, and so is each delay of a ``Constant``, a list or a function.
        retry: The retry's number, from 1.
        previous: Seconds of the wait before the last attempt, 0 before the first.
        draw: A random number from [0, 1).
    """
    base = base_delay(backoff, retry)
    if isinstance(cap, msgspec.UnsetType):
        cap = backoff.initial if isinstance(backoff, Exponential | Linear) else base
        if cap < MAX_GROWTH:
            cap = MAX_GROWTH
    if base > cap:
        base = cap
    if jitter == "full":
        return base * draw
    match jitter:
        case "none":
            return base
        case "equal":
            return base / 2 + base / 2 * draw
        case "decorrelated":
            first = min(base_delay(backoff, 1), cap)
            return first + (min(max(first, previous) * 3, cap) - first) * draw
