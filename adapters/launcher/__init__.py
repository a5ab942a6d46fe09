"""A launcher's bricks, launch plans, and how they stand on the screen."""

from adapters.launcher.launcher import Launcher

__all__ = ["Launcher", "NotDoneError", "WishError"]
