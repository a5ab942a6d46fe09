"""Operations, for code that emits by hand and for the runner of ``@recoverable``.

attempt = operation.start()
match attempt.fail(error):
    case Retry(after) | Park(after): ...   # wait, then: attempt = attempt.next()
    case GiveUp(): ...
attempt.succeed()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.attempt import Attempt, request_start
from events.bus import Bus
from events.call import Call
from events.names import display_name
from events.observed import NAMED
from events.runner_api import reject


class Operation:
    """A named kind of work, on a bus.

    ``successes`` counts the calls that succeeded. ``observed.is_on`` is true while starts or successes have a
    subscriber: a healthy call tests no more. ``generation``, added to that of the bus, grows with what its calls
    depend on (subscribers, settings of the service): what is compiled for one sum is not used with the next. The bus
    keeps both up to date.

    Args:
        name: What events, logs and the journal call it. It holds no NUL.
        bus: Where its events are published.
        key: Names a part of it that succeeds and fails by itself (the host of a download).

    Raises:
        ValueError: The name holds a NUL, which the bus needs to keep names and keys apart.
    """

    __slots__ = ("__weakref__", "bus", "generation", "key", "name", "observed", "owner", "successes")

    def __init__(self, name: str, bus: Bus, *, key: str = "") -> None:
        self.name = name
        self.bus = bus
        self.key = key
        # Not exact without the GIL: two threads may then count as one. With it, no switch can fall inside ``+= 1``.
        self.successes = 0
        self.observed = NAMED
        self.generation = 0
        self.owner: Callable[[], Any] = lambda: None  # what a service defined it as; weak, unless it must be kept
        bus.register(self)

    def __repr__(self) -> str:
        return f"<Operation {display_name(self.name, self.key)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        definition = self.owner()
        if definition is None:
            raise TypeError(f"cannot pickle operation {self.name!r}, which no service has defined")
        return definition.keyed, (self.key,)

    @property
    def is_observed(self) -> bool:
        """Whether its starts or successes have a subscriber."""
        return self.observed.is_on and self.bus.observes(self)

    def start(self) -> Attempt:
        """Begin a call.

        Raises:
            CallRejectedError: A subscriber (an open circuit, say) does not let it begin.
        """
        attempt = Attempt(Call(self, self.bus.new_call_id(), self.bus.clock()))
        deferred = request_start(attempt)
        if deferred is not None:
            raise reject(attempt, deferred)
        return attempt
