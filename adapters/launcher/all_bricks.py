"""All bricks together."""

from __future__ import annotations

from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick
from adapters.launcher.git import GitBrick
from adapters.launcher.update import UpdateBrick


class AllBricks(DownloadBrick, CommandBrick, GitBrick, UpdateBrick):
    """Every brick; a new one is added here."""
