"""A sentence about a failure, with what a person can do: templates with optional parts. Pure.

    fill("the disk is full[: {size} more are needed in {folder}]", details)

A part in brackets is left out if a detail in it is unknown. Details are only named in such parts, so that no name is
ever shown in place of one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple, TypeAlias

DETAILS: dict[str, str] = {
    "host": "the host that was asked",
    "path": "the file or folder that the error names",
    "folder": "the folder that lacks room",
    "size": "how much room is needed there",
    "free": "how much of that is free",
    "short": "how much must be freed at least",
    "wait": "how long the server asks to wait",
    "status": "the HTTP status",
    "code": "the exit code of the command",
    "signal": "what killed or crashed the process",
    "port": "the port that is taken",
    "process": "the process that is in the way",
    "lock": "the file that is the lock",
    "module": "the Python module that is missing",
    "package": "the package that pip or uv names",
    "node": "the node of a prompt, by its title and its id",
    "model": "the file that a prompt needs",
    "class": "the class of nodes that a prompt needs",
    "rule": "the code of a library, or the name of the rule",
}
"""What a template may name."""

Details: TypeAlias = Mapping[str, str]
"""What is known of a failure, by the names of ``DETAILS``; one that is unknown is not there, or ""."""

PART = re.compile(r"\[([^\[\]]*)\]")
NAME = re.compile(r"\{(\w*)\}")


class Sentence(NamedTuple):
    """What a cause means, and what helps. Each is a template.

    Args:
        sentence: What the failure means: lower case, no full stop, since log lines go on after it.
        step: What a person can do: whole sentences; "" if nothing helps but waiting.
        itself: What happens by itself while the call waits for the cause to go away: a whole sentence, or "" for the
            sentence that all causes share.
    """

    sentence: str
    step: str = ""
    itself: str = ""


def fill(template: str, details: Details) -> str:
    """*template* with its *details*, without the parts of which one is unknown."""
    return PART.sub(lambda part: _filled(part[1], details), template) if "[" in template else template


def _filled(part: str, details: Details) -> str:
    if not all(details.get(name) for name in NAME.findall(part)):
        return ""
    return NAME.sub(lambda name: details[name[1]], part)


@lru_cache(maxsize=512)
def names_in(template: str) -> tuple[str, ...]:
    """The details that *template* names."""
    return tuple(NAME.findall(template)) if "{" in template else ()


def problem_of(template: str, known: Mapping[str, str]) -> str:
    """What is wrong with *template*, which may name what is *known*; "" if nothing is."""
    rest = PART.sub("", template)
    if "[" in rest or "]" in rest:
        return "a bracket has no partner, or is inside another"
    if "{" in rest or "}" in rest:
        return "a {name} stands outside of [brackets]: they say what is left out where it is unknown"
    for part in PART.findall(template):
        names = NAME.findall(part)
        if "{" in NAME.sub("", part) or "}" in NAME.sub("", part):
            return f"[{part}] has a brace without partner"
        if not names:
            return f"[{part}] names no detail, such as {{{next(iter(known))}}}"
        if strange := [name for name in names if name not in known]:
            return f"{{{strange[0]}}} is unknown: it may name {', '.join(known)}"
    return ""
