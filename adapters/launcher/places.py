"""Where files may go: below a root, and through links only where that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

JOURNALS = ".recovery"
"""The folder beside a plan that holds its journal and its commands' output; below a root, it is for the output."""


def outside(root: Path, text: str, place: Path, *, follow_links: bool) -> str | None:
    """Why *place*, to which *text* leads with its links followed, may not be used; None if it may.

    Args:
        root: The root, with its links followed.
        text: The path below it.
        place: Where that is.
        follow_links: Whether a link may lead outside the root.
    """
    if place.is_relative_to(root):
        return None
    link = _link_outside(root, text)
    if link is None:
        return f"{text!r} is outside the root, {root}"
    if follow_links:
        return None
    said = f"{text!r} is outside the root: {str(link.relative_to(root))!r} is a link to {link.resolve()}"
    return f"{said}; follow_links = true allows it"


def _link_outside(root: Path, text: str) -> Path | None:
    """The first link on the way to *text* that leads outside *root*; None if ``..``, or an absolute path, does."""
    whole = Path(os.path.normpath(root / text))
    if not whole.is_relative_to(root):
        return None
    below = whole.relative_to(root)
    ways = [root / way for way in (*reversed(below.parents), below)]
    return next((way for way in ways if way.is_symlink() and not way.resolve().is_relative_to(root)), None)
