"""Processes: commands that run to their end, and what they leave running."""

from adapters.processes.command import SilentCommandError, kill_all, run_command

__all__ = ["kill_all", "run_command", "SilentCommandError"]
