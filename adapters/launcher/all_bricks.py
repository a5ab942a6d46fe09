"""All bricks together."""

from __future__ import annotations

from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick


class AllBricks(DownloadBrick, CommandBrick):
    """Every brick; a new one is added here."""
