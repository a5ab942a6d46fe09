"""For tests of code that recovers: a virtual clock, scripted failures, seeded chance, a store that fails.

What needs hypothesis or pytest is imported by name: ``recovery.testing.strategies``, ``recovery.testing.machine``
(every invariant, tried on your subscriber or policy) and ``recovery.testing.plugin`` (fixtures).
"""

from recovery.testing.clock import VirtualClock
from recovery.testing.faulty_store import FaultyStore
from recovery.testing.script import Script, seeded

__all__ = ["FaultyStore", "Script", "seeded", "VirtualClock"]
