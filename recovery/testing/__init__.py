"""Test code that recovers: a virtual clock, scripted failures, seeded randomness, a store that fails.

What needs hypothesis or pytest is imported by its module: ``recovery.testing.strategies``, ``recovery.testing.machine``
(every invariant, tested with your subscriber or policy) and ``recovery.testing.plugin`` (fixtures).
"""

from recovery.testing.clock import VirtualClock
from recovery.testing.faulty_store import FaultyStore
from recovery.testing.script import Script, seeded_rng

__all__ = ["FaultyStore", "Script", "seeded_rng", "VirtualClock"]
