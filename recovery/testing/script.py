"""Functions that fail as scripted, and randomness that repeats itself.

fetch = Script(ConnectionError("reset"), TimeoutError(), "page")
assert service.recoverable("fetch")(fetch)() == "page"
assert fetch.calls == 3
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any


class Script:
    """A function that raises or returns what it is told, then returns "done". It takes any arguments.

        fetch = Script(ConnectionError("reset"), TimeoutError(), "page")
        assert service.recoverable("fetch")(fetch)() == "page"
        assert fetch.calls == 3

    Args:
        outcomes: What each call raises (an exception, or a class of exceptions) or returns, in turn.
    """

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        """What the calls to come raise or return."""
        self.arguments: list[tuple[tuple[object, ...], dict[str, object]]] = []
        """The ``(args, kwargs)`` of each call so far."""

    @property
    def calls(self) -> int:
        """How many times it was called."""
        return len(self.arguments)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Return the next outcome; raises it if it is an exception or a class of exceptions."""
        self.arguments.append((args, kwargs))
        if self.outcomes and _is_error(self.outcomes[0]):
            raise self.outcomes.pop(0)  # type: ignore[misc]  # it is an exception; a name for it would make a cycle
        return self.outcomes.pop(0) if self.outcomes else "done"

    def as_async(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """The same script as a coroutine function."""

        async def script(*args: object, **kwargs: object) -> Any:
            return self(*args, **kwargs)

        return script


def _is_error(outcome: object) -> bool:
    return isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException))


def seeded_rng(seed: int) -> Callable[[], float]:
    """A random number generator whose draws from [0, 1) repeat for the same *seed*: ``Recovery(rng=seeded_rng(7))``."""
    return random.Random(seed).random
