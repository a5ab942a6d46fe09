"""A launcher's bricks, launch plans, and how they stand on the screen."""

from adapters.launcher.launcher import Launcher
from adapters.launcher.wishes import NotDoneError, WishError

__all__ = ["Launcher", "NotDoneError", "WishError"]
