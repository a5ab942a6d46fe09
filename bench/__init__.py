"""Measurements: ratios taken interleaved in one process. ``make bench`` runs them all."""
