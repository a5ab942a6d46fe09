"""Operations, for code that emits by hand and for the drivers of ``@recoverable``.

    attempt = operation.start()
    match attempt.fail(error):
        case Retry(after) | Park(after): ...   # wait, then: attempt = attempt.next()
        case GiveUp(): ...
    attempt.succeed()

Only a failure builds an event. A start or a success does so where somebody listens, which ``Operation.is_observed``
tells.
"""

from __future__ import annotations

from events.attempt import Attempt
from events.bus import Bus, sender_of


class Operation:
    """A named kind of work, on a bus.

    *key* names a part of it that succeeds and fails by itself (the host of a download). ``successes`` counts what
    went well; ``is_observed`` is true while anybody listens to starts or successes, and the bus keeps it true.
    """

    __slots__ = ("__weakref__", "bus", "is_observed", "key", "name", "successes")

    def __init__(self, name: str, bus: Bus, *, key: str = "") -> None:
        self.name = name
        self.bus = bus
        self.key = key
        # Not exact without the GIL: two threads may then count as one. With it, no switch can fall inside ``+= 1``.
        self.successes = 0
        self.is_observed = False
        bus._register(self)  # two halves of one mechanism

    def __repr__(self) -> str:
        return f"<Operation {sender_of(self.name, self.key)}>"

    def start(self) -> Attempt:
        """Begin a call. Raises CallRejectedError if a subscriber (an open circuit, say) holds it back."""
        attempt = Attempt(self)
        attempt.began = self.bus.clock()
        deferred = attempt.request_start()
        if deferred is not None:
            raise attempt.reject(deferred)
        return attempt
