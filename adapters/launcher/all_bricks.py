"""All bricks together."""

from __future__ import annotations

from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick
from adapters.launcher.packages import PackagesBrick
from adapters.launcher.venv import VenvBrick


class AllBricks(DownloadBrick, CommandBrick, PackagesBrick, VenvBrick):
    """Every brick; a new one is added here."""
