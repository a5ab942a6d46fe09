"""All bricks together."""

from __future__ import annotations

from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick
from adapters.launcher.steps import StepsBrick


class AllBricks(DownloadBrick, CommandBrick, StepsBrick):
    """Every brick; a new one is added here."""
