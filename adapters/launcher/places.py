"""Where files may go: below a root, each for one operation alone, and through links only where that is allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from adapters.downloads.names import files_of, is_taken
from adapters.launcher.document import Download, Step
from adapters.launcher.limits import TAKEN, too_long

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


def wrong_places(
    root: Path, steps: Sequence[Step], ours: Sequence[Path], *, follow_links: bool
) -> Iterator[tuple[str, str]]:
    """The problems with the paths of *steps*, each as its key and reason; *ours* are the plan and its journal's folder.

    Only the first problem is reported, and may be the cause of the others.
    """
    taken: dict[Path, int] = {}
    for number, step in enumerate(steps):
        for field, text in _paths(step):
            key = f"operation[{number}].{field}"
            try:
                place = (root / text).resolve()
            except (OSError, ValueError, RuntimeError) as error:  # a NUL, a name too long, links in a circle
                yield key, f"{text!r} is no place: {error}"
                continue
            if (reason := outside(root, text, place, follow_links=follow_links)) is not None:
                yield key, reason
            files = files_of(place) if field == "destination" else (place,)
            if (reason := too_long(place, files)) is not None:
                yield key, reason
            if field == "cwd":
                continue
            if place == root:
                yield key, f"{text!r} is the plan's root itself"
            if any(place.is_relative_to(one) for one in ours):
                yield key, f"{text!r} is where the plan and its journal are"
            if field == "creates":
                continue
            if place != root and place.is_dir():
                yield key, f"{text!r} is a folder that is there"
            for file in files:
                first = taken.setdefault(file, number)
                if first != number:
                    yield key, f"{text!r} is in the way of operation[{first}]'s destination"
    for file, number in taken.items():
        for parent in file.parents:
            if parent in taken:
                yield f"operation[{number}].destination", f"is below operation[{taken[parent]}]'s, which is a file"
    for number, step in enumerate(steps):
        if isinstance(step, Download) and is_taken(Path(step.destination).name):
            yield f"operation[{number}].destination", f"{step.destination!r} {TAKEN}"


def _paths(step: Step) -> Iterator[tuple[str, str]]:
    if isinstance(step, Download):
        yield "destination", step.destination
        return
    yield "cwd", step.cwd
    if step.creates is not None:
        yield "creates", step.creates
