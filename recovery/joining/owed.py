"""What resumed calls returned, kept for the program until it asks for it."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recovery.joining.shared_call import Identity, SharedCall

MAX_OWED = 10_000
"""Results of resumed calls that are kept for the program; the oldest are dropped first."""


class OwedResults:
    """The resumed calls that have ended, by identity. Each is taken once. Not safe for threads."""

    def __init__(self) -> None:
        self._calls: OrderedDict[Identity, SharedCall] = OrderedDict()

    def keep(self, shared: SharedCall) -> None:
        """*shared* has ended, and no caller has its result yet."""
        if shared.identity is None:
            return
        self._calls[shared.identity] = shared
        self._calls.move_to_end(shared.identity)
        if len(self._calls) > MAX_OWED:
            self._calls.popitem(last=False)

    def take(self, identity: Identity) -> SharedCall | None:
        """The call of that *identity*, which is forgotten."""
        return self._calls.pop(identity, None)

    def forget(self, shared: SharedCall) -> None:
        """A caller has the result of *shared*."""
        if shared.identity is not None and self._calls.get(shared.identity) is shared:
            del self._calls[shared.identity]

    def clear(self) -> None:
        """Forget all."""
        self._calls.clear()
