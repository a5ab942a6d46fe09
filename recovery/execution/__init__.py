"""Run one call: decorator, attempts, timeouts."""
