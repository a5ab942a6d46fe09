"""What is known of a failure: the details that its sentence can name. Pure.

They are looked for in texts that are redacted already: a part of a secret is no secret that redaction knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from events.evidence import Evidence, Room
from recovery.policies.error_messages import compiled
from recovery.policies.resources import PREFIXES, amount
from recovery.redact import brief

MOST_DETAIL = 120
"""Characters of a detail that are shown."""

KEY = r"(\[[0-9a-f:.]+\]|[\w.-]+):([0-9]{1,5})"
"""A key as ``host_of`` makes it."""

USUAL_PORTS = ("80", "443", "22", "9418")

HOST = (
    r"could not resolve (?:host|proxy): ?([\w.-]+)|(?:unable to access|for url:?|connect to|look up) '?https?://([\w.-]+)|"
    r"host='([\w.-]+)'|(?:failed to connect to|ssh: connect to host|unable to look up|unable to connect to) ([\w.-]+\w)"
)
PATH = r"\[(?:errno|winerror) [0-9]+\] [^:'\n]{1,80}: ['\"]([^'\"\n]+)['\"]"
PORT = r"\bport ([0-9]{2,5})\b|\('[^'\n]{0,60}', ([0-9]{2,5})\)"
PROCESS = r"\bprocess ([0-9]+ \([^)\n]{1,80}\))"
LOCK = r"(?:\bas |unable to create ')([^'\n]{1,200}\.lock)\b"
FREE = r"\bhas ([0-9]+(?:\.[0-9]+)? [kMGT]?B) free of [0-9.]+ [kMGT]?B;"
"""How much is free, where no other download claims a part of that."""

MODULE = r"no module named '?([\w.]+)"
PACKAGE = (
    r"no matching distribution found for ([\w.\-\[\]=<>~!,]+)|satisfies the requirement ([\w.\-\[\]=<>~!,]+)|"
    r"failed building wheel for ([\w.-]+)|package '([\w.-]+)' requires a different python"
)

NODE = r"(?:^|[:;] )([^:;\n]{1,70} \(node [^()\n]{1,60}\))"
MODEL = r" needs the file ([^\n]{1,200}?), which is not in "
CLASS = r" is of the class ([^\n]{1,200}?), which the server does not have"

PATTERNS = {
    "path": PATH, "port": PORT, "process": PROCESS, "lock": LOCK, "module": MODULE, "package": PACKAGE,
    "node": NODE, "model": MODEL, "class": CLASS,
}  # fmt: skip
"""How the details are found that the texts alone tell."""


class Known(NamedTuple):
    """What is known of a failure besides its rule.

    Args:
        key: The key of its call, such as a host.
        texts: What the exception and the tool say, redacted.
        room: The room that is missing, if an exception says so.
        wait: How long the server asks to wait, in words; "" for no time.
    """

    key: str
    texts: tuple[str, ...]
    room: Room | None = None
    wait: str = ""


def details_of(known: Known, names: Iterable[str]) -> dict[str, str]:
    """The details that *names* name, of ``recovery.policies.sentence.DETAILS``, as far as they are *known*."""
    found: dict[str, str] = {}
    for name in names:
        match name:
            case "host":
                found[name] = short_host(known.key) or _in(HOST, known.texts)
            case "folder" if known.room is not None:
                found[name] = known.room.folder
            case "size" if known.room is not None:
                found[name] = amount(known.room.bytes, "B")
            case "free" | "short" if known.room is not None:
                free = _in(FREE, known.texts)
                missing = known.room.bytes - _bytes(free) if free else 0.0
                if missing > 0.0:
                    found[name] = free if name == "free" else amount(missing, "B")
            case "wait":
                found[name] = known.wait
            case _ if name in PATTERNS:
                found[name] = _in(PATTERNS[name], known.texts)
    return {name: _shown(detail) for name, detail in found.items() if detail}


def room_of(evidence: Evidence | None) -> Room | None:
    """The room that is missing, as the exception or one of its causes says."""
    while evidence is not None and evidence.room is None:
        evidence = evidence.cause
    return None if evidence is None else evidence.room


def short_host(key: str) -> str:
    """The host of *key*, with a port that is not the usual one; "" for a key of another kind."""
    found = compiled(KEY).fullmatch(key)
    return "" if found is None else found[1] if found[2] in USUAL_PORTS else key


def _bytes(text: str) -> float:
    """The number of bytes that ``amount`` wrote as *text*."""
    number, _, unit = text.partition(" ")
    return float(number) * {prefix: size for size, prefix in PREFIXES}.get(unit.removesuffix("B"), 1.0)


def _in(pattern: str, texts: Iterable[str]) -> str:
    for text in texts:
        if (found := compiled(pattern).search(text)) is not None:
            return next(filter(None, found.groups()), "")
    return ""


def _shown(detail: str) -> str:
    """*detail* in one printable line, shortened in its middle: the end of a path tells most."""
    detail = brief(detail)
    is_short = len(detail) <= MOST_DETAIL
    return detail if is_short else f"{detail[: MOST_DETAIL // 3]}\u2026{detail[-MOST_DETAIL // 2 :]}"
