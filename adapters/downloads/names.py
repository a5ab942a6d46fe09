"""The names of the files beside a destination that a download makes. Pure."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

LONGEST_STEM = 255 - len(".part.json.new")
"""Bytes that the names of partial file and sidecar have before their endings, at most."""

ENDINGS = (".part", ".part.new", ".part.json", ".part.json.new")
"""How the names of the files end that a download makes beside its destination."""


def partial_path(destination: Path) -> Path:
    """Where the bytes of *destination* are kept until they are whole. The suffix stays: model.ckpt is not model.bin."""
    return destination.with_name(_stem(destination.name) + ".part")


def files_of(destination: Path) -> tuple[Path, ...]:
    """Every file that a download to *destination* may make."""
    sidecar = sidecar_path(destination)
    others = beside_path(destination), sidecar, sidecar.with_name(sidecar.name + ".new")
    return destination, partial_path(destination), *others


def is_taken(name: str) -> bool:
    """Whether a download to another destination may make a file of this *name*."""
    return any(name.endswith(ending) and name != ending for ending in ENDINGS)


def beside_path(destination: Path) -> Path:
    """Where bytes go that may replace the partial file, and that nothing identifies."""
    return destination.with_name(_stem(destination.name) + ".part.new")


def sidecar_path(destination: Path) -> Path:
    """Where it is recorded what the partial file of *destination* holds."""
    return destination.with_name(_stem(destination.name) + ".part.json")


def _stem(name: str) -> str:
    """What the names of partial file and sidecar begin with: *name*, or a part of a long one and its hash.

    No name is another's stem: a shortened one has ``LONGEST_STEM`` bytes, and a name that is not shortened has fewer.
    """
    whole = os.fsencode(name)
    if len(whole) < LONGEST_STEM:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:32]
    beginning = whole[: LONGEST_STEM - len(digest) - 1].decode("utf-8", "ignore")
    return beginning + "~" * (LONGEST_STEM - len(digest) - len(beginning.encode())) + digest
