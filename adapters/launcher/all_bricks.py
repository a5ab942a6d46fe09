"""All bricks together."""

from __future__ import annotations

from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick
from adapters.launcher.git import GitBrick


class AllBricks(DownloadBrick, CommandBrick, GitBrick):
    """Every brick; a new one is added here."""
