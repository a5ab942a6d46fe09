"""Measurements: ratios taken interleaved in one process. ``make bench`` prints the table, ``make report`` writes it."""
