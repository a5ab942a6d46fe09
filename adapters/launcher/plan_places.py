"""The paths of a plan: below its root, each made by one operation, and not before the folder that it is in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from adapters.downloads.names import files_of, is_taken
from adapters.launcher.document import Step
from adapters.launcher.kinds.operation import Place, Problem
from adapters.launcher.limits import TAKEN, too_long
from adapters.launcher.places import outside


class Found(msgspec.Struct, frozen=True):
    """Where a *place* of the operation *number* is: its *path*, with its links followed."""

    number: int
    place: Place
    path: Path

    @property
    def key(self) -> str:
        """Where the plan says it."""
        return key_of(self.number, self.place.field)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are made there, of a download."""
        return tuple(files_of(self.path)) if self.place.use == "file" else (self.path,)


def key_of(number: int, field: str) -> str:
    """The key of the *field* of that operation, for messages."""
    return f"operation[{number}].{field}"


def wrong_places(
    root: Path, steps: Sequence[Step], ours: Sequence[Path], before: Mapping[str, set[str]], *, follow_links: bool
) -> Iterator[Problem]:
    """The problems with the paths of *steps*, each as its key and reason. The first may be the cause of the others.

    Args:
        root: The root of the plan.
        steps: Its operations.
        ours: The plan and its journal's folder.
        before: The operations that end before each one begins, by name.
        follow_links: Whether a link may lead outside the root.
    """
    found: list[Found] = []
    for number, step in enumerate(steps):
        for place in step.places():
            try:
                one = Found(number, place, (root / place.text).resolve())
            except (OSError, ValueError, RuntimeError) as error:  # a NUL, a name too long, links in a circle
                yield key_of(number, place.field), f"{place.text!r} is no place: {error}"
                continue
            reason = outside(root, place.text, one.path, follow_links=follow_links) or too_long(one.path, one.files)
            if (reason := reason or _in_our_way(one, root, ours)) is not None:
                yield one.key, reason
            found.append(one)
    yield from _equal_places([one for one in found if one.place.use in ("file", "folder")], root)
    yield from _before_their_folder(found, steps, before)
    for one in found:
        if one.place.use == "file" and is_taken(Path(one.place.text).name):
            yield one.key, f"{one.place.text!r} {TAKEN}"


def _in_our_way(one: Found, root: Path, ours: Sequence[Path]) -> str | None:
    text, path, use = one.place.text, one.path, one.place.use
    if use == "read":
        return None
    if path == root:
        return f"{text!r} is the plan's root itself"
    if any(path.is_relative_to(our) or (use == "folder" and our.is_relative_to(path)) for our in ours):
        return f"{text!r} is where the plan and its journal are"
    if use == "file" and path.is_dir():
        return f"{text!r} is a folder that is there"
    if use == "folder" and path.exists() and not path.is_dir():
        return f"{text!r} is a file that is there"
    return None


def _equal_places(made: Sequence[Found], root: Path) -> Iterator[Problem]:
    """What two operations make, and what is below a file that one of them downloads."""
    taken: dict[Path, Found] = {}
    for one in made:
        for file in one.files:
            first = taken.setdefault(file, one)
            if first.number != one.number:
                yield one.key, f"{one.place.text!r} is in the way of operation[{first.number}]'s {first.place.field}"
    for file, one in taken.items():
        for parent in file.parents:
            if parent in taken and taken[parent].place.use == "file":
                yield one.key, f"is below operation[{taken[parent].number}]'s, which is a file"


def _before_their_folder(
    found: Sequence[Found], steps: Sequence[Step], before: Mapping[str, set[str]]
) -> Iterator[Problem]:
    """Places in a folder that another operation makes, and may make later: it would not be empty then."""
    folders = {one.path: one for one in found if one.place.use == "folder"}
    for one in found:
        for path in (one.path, *one.path.parents):
            outer = folders.get(path)
            if outer is None or outer.number == one.number:
                continue
            maker = steps[outer.number].name
            if maker not in before[steps[one.number].name]:
                said = f"{one.place.text!r} is in the folder that operation[{outer.number}] makes"
                yield one.key, f"{said}: add {maker!r} to needs"
