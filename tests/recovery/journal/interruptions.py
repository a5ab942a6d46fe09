"""An event that runs a handler while the write queue accepts it, as a signal would."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from events.operation_events import FailureClassified
from tests.failures import a_failure


class _Text(str):
    handler: Callable[[], object]

    def __len__(self) -> int:
        self.handler()
        return 0


def interrupted(handler: Callable[[], object]) -> FailureClassified:
    """An event whose acceptance runs *handler* once, with the queue's lock held (it asks for a text's length)."""

    def run() -> None:
        msgspec.structs.force_setattr(event.evidence, "message", "")  # the text itself cannot be written
        handler()

    text = _Text("reset")
    text.handler = run
    event = a_failure(text)
    return event
