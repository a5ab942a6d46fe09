"""Count calls and durations, raise alerts, estimate the overhead."""
