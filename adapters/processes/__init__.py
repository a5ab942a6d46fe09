"""Processes: commands that run to their end, and what they leave running."""
