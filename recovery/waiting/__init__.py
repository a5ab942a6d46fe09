"""Calls that wait: for a delay, a condition, a circuit or a person."""
