"""Pure decisions: no clock, chance, threads, logging or I/O."""
