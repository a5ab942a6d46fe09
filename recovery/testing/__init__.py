"""For tests of code that recovers: a virtual clock here, hypothesis strategies in ``recovery.testing.strategies``."""

from recovery.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
