"""In which order a worker looks into its lanes: the urgent ones first as a rule, and the others in their turn. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.nats.names import PRIORITIES, Lane, Priority

WEIGHTS: dict[Priority, int] = {"high": 8, "normal": 3, "low": 1}
"""How many of twelve looks begin with a priority."""


class LaneOrder:
    """The lanes of a worker, in another order for each look.

    Of twelve looks in a row, eight begin with high calls, three with normal ones, and one with low ones. So a lane that
    always has calls gets its share, whatever waits in the others. Those of one priority take turns, too.

    Args:
        operations: The names of the operations that the worker runs.
        node: Its name: what waits for this node alone is its work, too.
    """

    def __init__(self, operations: Sequence[str], node: str) -> None:
        self._lanes = {
            priority: [Lane(name, priority, at) for name in operations for at in (node, "")] for priority in PRIORITIES
        }
        self._owed = dict.fromkeys(PRIORITIES, 0)

    def next(self) -> list[Lane]:
        """All lanes, in the order of the next look."""
        for priority, weight in WEIGHTS.items():
            self._owed[priority] += weight
        first = max(PRIORITIES, key=lambda priority: self._owed[priority])
        self._owed[first] -= sum(WEIGHTS.values())
        lanes = self._lanes[first]
        lanes.append(lanes.pop(0))
        others = [lane for priority in PRIORITIES if priority != first for lane in self._lanes[priority]]
        return [*lanes, *others]
