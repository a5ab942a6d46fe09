"""Functions that fail as they are told to, and chance that repeats itself.

fetch = Script(ConnectionError("reset"), TimeoutError(), "page")
assert service.recoverable("fetch")(fetch)() == "page"
assert fetch.calls == 3
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any


class Script:
    """Raises or returns each of *outcomes* in turn, whatever it is called with; after the last it returns "done".

    ``calls`` counts, ``arguments`` holds the ``(args, kwargs)`` of each call.
    """

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.arguments: list[tuple[tuple[object, ...], dict[str, object]]] = []

    @property
    def calls(self) -> int:
        """How often it was called."""
        return len(self.arguments)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Do what the script says next. Raises the outcomes that are exceptions, or classes of them."""
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


def seeded(seed: int) -> Callable[[], float]:
    """Draws from [0, 1) that are the same for the same *seed*: for ``Recovery(rng=seeded(7))``."""
    return random.Random(seed).random
