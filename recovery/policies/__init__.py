"""Pure decisions: no clock, randomness, threads, logging or I/O."""
