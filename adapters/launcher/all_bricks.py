"""All bricks together."""

from __future__ import annotations

from adapters.launcher.comfyui import ComfyUIBrick
from adapters.launcher.command import CommandBrick
from adapters.launcher.download import DownloadBrick
from adapters.launcher.git import GitBrick
from adapters.launcher.packages import PackagesBrick
from adapters.launcher.server import ServerBrick
from adapters.launcher.steps import StepsBrick
from adapters.launcher.stuck import StuckBrick
from adapters.launcher.update import UpdateBrick
from adapters.launcher.venv import VenvBrick
from adapters.launcher.workflow import WorkflowBrick


class AllBricks(
    DownloadBrick, CommandBrick, ComfyUIBrick, GitBrick, PackagesBrick, ServerBrick, StepsBrick, StuckBrick,
    UpdateBrick, VenvBrick, WorkflowBrick,
):  # fmt: skip
    """Every brick; a new one is added here."""
